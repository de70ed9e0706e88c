//! DP06: the identity provider becomes the claims that people will be able to sign in, and to stay signed in.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::installation::Installation;
use super::super::outside::provider::{Contact, Provider, Seen};
use super::provider_admitted::ADMITTED;
use crate::config::gateway::OidcConfig;
use crate::oidc::survey::{ClientAnswer, Discovered, Document, SignInAnswer, SurveyError};
use crate::tls::facts::Facts;
use jiff::SignedDuration;
use serde_json::json;
use std::fmt::Display;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    REACHED.check(|context| Box::pin(seen(context, reached))),
    TRUSTED.check(|context| {
        Box::pin(async move {
            let names = context.gateway_authorities().await.names();
            seen(Arc::clone(&context), |provider| trusted(provider, &names)).await
        })
    }),
    DISCOVERED.check(|context| Box::pin(seen(context, discovered))),
    ISSUER.check(|context| {
        Box::pin(async move { seen(Arc::clone(&context), |provider| issuer(provider, &context.installation)).await })
    }),
    CODE_FLOW.check(|context| Box::pin(seen(context, code_flow))),
    PKCE.check(|context| Box::pin(seen(context, pkce))),
    KEYS.check(|context| Box::pin(seen(context, keys))),
    CLIENT.check(|context| Box::pin(seen(context, client))),
    SIGN_IN.check(|context| Box::pin(seen(context, sign_in))),
    CLOCK.check(|context| Box::pin(seen(context, clock))),
    REFRESH.check(|context| Box::pin(seen(context, refresh))),
    LOGOUT.check(|context| Box::pin(seen(context, logout))),
    ADMITTED,
];

/// For all exchanges with the provider together; each has its own limit.
const PATIENCE: u64 = 25;

const REACHED: Claim = Claim::error("DP0601", "the identity provider is reached")
    .why("Nobody can sign in, and gateways never get ready.")
    .needs(&["DP0101", "DP0501"])
    .patience(PATIENCE)
    .docs("A connection to the issuer's host, with TLS where it is https, from where the doctor runs: run it in the cluster to see what its pods see. What the gateway's own policy lets out is DP0613.");

const TRUSTED: Claim = Claim::error("DP0602", "the identity provider's certificate is trusted by the gateway")
    .why("The gateway does not talk to a provider whose certificate it does not trust.")
    .needs(&["DP0601"])
    .patience(PATIENCE)
    .docs(
        "The certificates that the provider presents are verified with the system's authorities and those that the gateway is given: signed by \
         one of them, for the issuer's host, valid now.",
    );

const DISCOVERED: Claim = Claim::error("DP0603", "the issuer has a discovery document")
    .why("The gateway learns from it where to send browsers and where the keys are.")
    .needs(&["DP0602"])
    .patience(PATIENCE)
    .docs("`/.well-known/openid-configuration` below the issuer (OpenID Connect Discovery 1.0, section 4). Redirects are not followed.");

const ISSUER: Claim = Claim::error("DP0604", "the issuer is written exactly as the provider writes it")
    .why("Tokens name their issuer, and one that differs by a single character is refused.")
    .needs(&["DP0603"])
    .patience(PATIENCE)
    .docs("`gateway.oidc.issuerURL`, or `issuer-url` in the Secret that `gateway.oidc.existingSecret` names, against `issuer` in the discovery document, byte for byte (OpenID Connect Discovery 1.0, section 4.3).");

const CODE_FLOW: Claim = Claim::error("DP0605", "the provider has the authorization code flow, with its endpoints over https")
    .why("The gateway signs people in by this flow alone.")
    .needs(&["DP0604"])
    .patience(PATIENCE)
    .docs("`response_types_supported` has `code`, `grant_types_supported` has `authorization_code`, and the endpoints and `jwks_uri` are https.");

const PKCE: Claim = Claim::warning("DP0606", "the provider says that it checks PKCE (S256)")
    .why("Without it a stolen code is worth more. The gateway sends it always; a provider that does not know it ignores it.")
    .needs(&["DP0604"])
    .patience(PATIENCE)
    .docs("`code_challenge_methods_supported` has `S256` (RFC 8414, section 2). Some providers check it without saying so.");

const KEYS: Claim = Claim::error("DP0607", "the provider signs with keys that the gateway believes")
    .why("ID tokens with an HMAC or without a signature are refused.")
    .needs(&["DP0605"])
    .patience(PATIENCE)
    .docs(
        "`id_token_signing_alg_values_supported` has one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, and the key set has a \
         key for signatures of such a kind.",
    );

const CLIENT: Claim = Claim::error("DP0608", "the provider knows the client and its secret")
    .why("Every sign-in would end with an error after the password was right.")
    .needs(&["DP0605"])
    .patience(PATIENCE)
    .docs(
        "The token endpoint is shown client id and secret with a code that nobody has given out. `invalid_grant` tells that the client was \
         accepted; `invalid_client` or `unauthorized_client` that it was not (RFC 6749, section 5.2). No user is needed.",
    );

const SIGN_IN: Claim = Claim::error("DP0609", "the provider sends browsers back to the gateway")
    .why("Users would see an error page of the provider instead of their workspace.")
    .needs(&["DP0608"])
    .patience(PATIENCE)
    .docs(
        "A sign-in is begun that may show no page (`prompt=none`): a provider that knows the redirect URL sends back there with \
         `login_required` (OpenID Connect Core 1.0, section 3.1.2.6). It also tells scopes that the client may not ask for.",
    );

const CLOCK: Claim = Claim::error("DP0610", "the clocks of provider and gateway agree")
    .why("Tokens would be refused as expired, or as not valid yet.")
    .needs(&["DP0603"])
    .patience(PATIENCE)
    .docs("The `Date` of the provider's answer against the clock where the doctor runs. The difference must be within `gateway.oidc.clockSkew` and 2 s.");

const REFRESH: Claim = Claim::warning("DP0611", "the provider gives refresh tokens")
    .why("Without them a session ends with its ID token, often after minutes, and a user who was disabled is noticed only then.")
    .needs(&["DP0605"])
    .patience(PATIENCE)
    .docs(
        "`grant_types_supported` has `refresh_token`, and `scopes_supported` has `offline_access` where `gateway.oidc.scopes` asks for it. Whether one is given without \
         `offline_access` shows at a sign-in alone: skipped where the provider lists that scope and it is not asked for. With it, a session may outlive the sign-out there.",
    );

const LOGOUT: Claim = Claim::warning("DP0612", "the provider tells the gateway who signs out")
    .why("Without back-channel logout, who signs out elsewhere keeps their terminals until the next refresh.")
    .needs(&["DP0604"])
    .patience(PATIENCE)
    .docs("`backchannel_logout_supported` (OpenID Connect Back-Channel Logout 1.0). The address to register is `/backchannel-logout` of the gateway.");

async fn seen(context: Arc<Context>, judge: impl FnOnce(&Provider) -> Status) -> Status {
    match context.provider().await {
        Seen::Unknown { why } => Status::skip(why.as_str()),
        Seen::Provider(provider) => judge(provider),
    }
}

/// Judges by the discovery document, which checks that need DP0603 always have.
fn by_document(provider: &Provider, judge: impl FnOnce(&Document, &OidcConfig) -> Status) -> Status {
    match &provider.discovered {
        Some(Ok(Discovered { document, .. })) => judge(document, &provider.settings),
        _ => Status::skip("there is no discovery document"),
    }
}

fn reached(provider: &Provider) -> Status {
    let issuer = &provider.settings.issuer;
    let unreached = |problem: String| {
        Status::fail(
            format!("the issuer {issuer} can't be reached: {problem}"),
            problem,
            "a connection",
            Fix::words(
                "see that the provider is up, that its name resolves here, and that no firewall or NetworkPolicy is between",
            ),
        )
    };
    match &provider.contact {
        Contact::Plain(Ok(())) => Status::pass("on this machine, without TLS"),
        Contact::Plain(Err(problem)) => unreached(problem.clone()),
        Contact::Tls { host, presented, .. } => match presented {
            Ok(_) => Status::pass(format!("{host} answers")),
            Err(error) => unreached(error.to_string()),
        },
    }
}

fn trusted(provider: &Provider, authorities: &str) -> Status {
    let Contact::Tls {
        host,
        presented: Ok(chain),
        trusted: Some(trusted),
    } = &provider.contact
    else {
        return Status::pass("on this machine, without TLS");
    };
    let facts: Vec<_> = chain.iter().filter_map(Facts::of).collect();
    let last = facts.last().map_or("nobody", |facts| facts.issuer.as_str());
    let own = facts.first().map(ToString::to_string).unwrap_or_default();
    match trusted {
        Ok(()) => Status::pass(format!("{own}, issued by {last}")),
        Err(error) => Status::fail(
            format!("the certificate of {host} is not trusted: {error}"),
            format!("{own}; issued by {last}"),
            format!("one for {host} that is valid now and issued by one of {authorities}"),
            Fix::words(format!(
                "put the certificate of the authority {last} into customCA.pem, or let the provider present one that is trusted"
            )),
        ),
    }
}

fn discovered(provider: &Provider) -> Status {
    match &provider.discovered {
        Some(Ok(_)) => Status::pass("it answers"),
        Some(Err(error)) => Status::fail(
            error.to_string(),
            error.to_string(),
            "a discovery document in JSON",
            Fix::words(
                "set gateway.oidc.issuerURL to the issuer that the provider names, with its path (such as /realms/NAME), without /.well-known",
            ),
        ),
        None => Status::skip("the provider's certificate is not trusted"),
    }
}

fn issuer(provider: &Provider, installation: &Installation) -> Status {
    by_document(provider, |document, settings| {
        let (ours, theirs) = (&settings.issuer, &document.issuer);
        if ours == theirs {
            return Status::pass(theirs.as_str());
        }
        let values = installation.values.as_ref();
        let secret = values.map(|values| values.text("gateway.oidc.existingSecret"));
        let (place, fix) = match secret.filter(|name| !name.is_empty()) {
            Some(name) => {
                let fix = write_issuer(&name, &installation.namespace, theirs);
                (format!("issuer-url in Secret {name}"), Fix::command(fix))
            }
            None => (
                "gateway.oidc.issuerURL".to_owned(),
                Fix::values(format!("gateway:\n  oidc:\n    issuerURL: {theirs:?}")),
            ),
        };
        Status::fail(
            format!("the provider calls itself {theirs:?}, and {place} is {ours:?}"),
            ours.as_str(),
            theirs.as_str(),
            fix,
        )
    })
}

/// A gateway that runs reads the Secret when it starts; before the installation there is none.
fn write_issuer(secret: &str, namespace: &str, issuer: &str) -> String {
    // What a provider writes must not end the text in quotes.
    let patch = json!({"stringData": {"issuer-url": issuer}})
        .to_string()
        .replace('\'', "\\u0027");
    format!(
        "kubectl patch secret {secret} -n {namespace} --type merge -p '{patch}'\n\
         kubectl rollout restart deployment -n {namespace} -l app=workspace-gateway"
    )
}

fn code_flow(provider: &Provider) -> Status {
    by_document(provider, |document, _| {
        let lacks = |what: &str| {
            Status::fail(
                format!("the provider does not say that it has {what}"),
                format!(
                    "response types {:?}, grant types {:?}",
                    document.response_types_supported, document.grant_types_supported
                ),
                "code and authorization_code",
                Fix::words("switch the authorization code flow on at the provider"),
            )
        };
        if !document.response_types_supported.iter().any(|kind| kind == "code") {
            return lacks("the response type code");
        }
        if !document
            .grant_types_supported
            .iter()
            .any(|kind| kind == "authorization_code")
        {
            return lacks("the grant type authorization_code");
        }
        for (name, url) in [
            ("authorization_endpoint", &document.authorization_endpoint),
            ("token_endpoint", &document.token_endpoint),
            ("jwks_uri", &document.jwks_uri),
        ] {
            let url = url.as_deref().unwrap_or("not there");
            let is_secure = url::Url::parse(url).is_ok_and(|url| crate::config::syntax::is_secure(&url));
            if !is_secure {
                return Status::fail(
                    format!("the provider's {name} is {url}"),
                    url,
                    "an https URL",
                    Fix::words(
                        "let the provider know its public address, which must be https (behind a proxy: its forwarded headers)",
                    ),
                );
            }
        }
        Status::pass("code, and three endpoints over https or on this machine")
    })
}

fn pkce(provider: &Provider) -> Status {
    by_document(provider, |document, _| {
        let methods = &document.code_challenge_methods_supported;
        if methods.iter().any(|method| method == "S256") {
            return Status::pass("S256");
        }
        Status::fail(
            "the provider does not say that it checks PKCE with S256",
            format!("{methods:?}"),
            "S256",
            Fix::words(
                "switch PKCE with S256 on for the client at the provider; where it is on without being told, --skip DP0606",
            ),
        )
    })
}

fn keys(provider: &Provider) -> Status {
    by_document(provider, |document, _| {
        let algorithms = document.usable_algorithms();
        let all = &document.id_token_signing_alg_values_supported;
        let fix =
            || Fix::words("let the provider sign the client's ID tokens with RS256 or ES256, and publish the key");
        if algorithms.is_empty() {
            return Status::fail(
                "the provider signs ID tokens by no algorithm that the gateway believes",
                format!("{all:?}"),
                "RS256 or another asymmetric algorithm",
                fix(),
            );
        }
        let keys = match &provider.keys {
            Some(Ok(keys)) => keys,
            Some(Err(error)) => return asked_in_vain("its key set", error),
            None => return Status::skip("the key set was not asked for"),
        };
        let usable = keys.iter().filter(|key| key.is_usable()).count();
        if usable == 0 {
            let kinds: Vec<_> = keys.iter().map(|key| key.alg.as_deref().unwrap_or(&key.kty)).collect();
            return Status::fail(
                "the provider's key set has no key that the gateway could verify an ID token with",
                kinds.join(", "),
                "an RSA, P-256, P-384 or Ed25519 key for signatures",
                fix(),
            );
        }
        Status::pass(format!(
            "{} with {usable} of {} keys",
            algorithms.join(", "),
            keys.len()
        ))
    })
}

fn client(provider: &Provider) -> Status {
    let id = &provider.settings.client_id;
    match &provider.client {
        None => Status::skip("the token endpoint was not asked"),
        Some(Err(error)) => asked_in_vain("its token endpoint", error),
        Some(Ok(ClientAnswer::Accepted)) => Status::pass(format!("client {id} is accepted")),
        Some(Ok(ClientAnswer::Unclear { what })) => Status::skip(format!(
            "the token endpoint answers a wrong code with {what}, which tells neither"
        )),
        Some(Ok(ClientAnswer::Refused { error })) => Status::fail(
            format!("the provider does not accept client {id} with the secret that the gateway has ({error})"),
            error.as_str(),
            "a client that is known, confidential, and has this secret",
            Fix::words(
                "compare client id and secret with those at the provider: gateway.oidc.clientID and clientSecret, or the keys client-id and \
                 client-secret of gateway.oidc.existingSecret; a file that the Secret was made from must not end in a newline",
            ),
        ),
    }
}

fn sign_in(provider: &Provider) -> Status {
    let redirect = &provider.settings.redirect_url;
    match &provider.sign_in {
        None => Status::skip("the authorization endpoint was not asked"),
        Some(Err(error)) => asked_in_vain("its authorization endpoint", error),
        Some(Ok(SignInAnswer::Ready)) => Status::pass(format!("to {redirect}")),
        Some(Ok(SignInAnswer::Unclear { what })) => Status::skip(format!(
            "the provider answers a sign-in without a page with {what}, which tells nothing"
        )),
        Some(Ok(SignInAnswer::NotSentBack { status })) => Status::fail(
            format!("the provider refuses to send browsers back to {redirect}"),
            format!("HTTP status {status}"),
            format!("a redirect to {redirect}"),
            Fix::words(format!(
                "register {redirect} as a redirect URL of client {} at the provider, or correct gateway.oidc.redirectURL (redirect-url)",
                provider.settings.client_id
            )),
        ),
        Some(Ok(SignInAnswer::Refused { error, description })) => Status::fail(
            format!("the provider sends every sign-in back with the error {error}: {description}"),
            error.as_str(),
            "a page to sign in at",
            Fix::words(match error.as_str() {
                "invalid_scope" => {
                    "take the scopes that the client may not ask for out of gateway.oidc.scopes, or allow them at the provider"
                }
                "unauthorized_client" | "unsupported_response_type" => {
                    "allow the client the authorization code flow at the provider"
                }
                _ => "see the provider's log for what is wrong with the client",
            }),
        ),
    }
}

fn clock(provider: &Provider) -> Status {
    let Some(Ok(Discovered { date, .. })) = &provider.discovered else {
        return Status::skip("there is no answer with a time");
    };
    let Some(date) = date else {
        return Status::skip("the provider's answer has no Date");
    };
    let apart = date.duration_since(provider.asked_at).abs();
    let allowed = SignedDuration::try_from(provider.settings.clock_skew).unwrap_or(SignedDuration::MAX);
    // Whole seconds, and the time that the answer took.
    if apart <= allowed.saturating_add(SignedDuration::from_secs(2)) {
        return Status::pass(format!("{} s apart", apart.as_secs()));
    }
    Status::fail(
        format!("the provider's clock and the one here are {} s apart", apart.as_secs()),
        format!(
            "{date} there, {} here",
            provider.asked_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        ),
        format!("at most {} s (gateway.oidc.clockSkew)", allowed.as_secs()),
        Fix::words("let both take the time from the same NTP servers"),
    )
}

fn refresh(provider: &Provider) -> Status {
    by_document(provider, |document, settings| {
        let asks = settings.scopes.iter().any(|scope| scope == "offline_access");
        let problem = if !document
            .grant_types_supported
            .iter()
            .any(|kind| kind == "refresh_token")
        {
            "the provider does not say that it has the grant type refresh_token"
        } else if asks && document.knows_scope("offline_access") == Some(false) {
            "the provider does not know the scope offline_access, so the gateway does not ask for it"
        } else if asks {
            return Status::pass(
                "refresh_token, with offline_access: a session may outlive the sign-out at the provider, as with Keycloak",
            );
        } else if document.knows_scope("offline_access") == Some(true) {
            return Status::skip(
                "whether it gives one without the scope offline_access shows at a sign-in: the gateway's log line `signed in` has refresh_token=false where it does not; then add offline_access to gateway.oidc.scopes",
            );
        } else {
            return Status::pass("refresh_token");
        };
        Status::fail(
            problem,
            format!("{:?}", document.grant_types_supported),
            "refresh_token, and offline_access where it takes that",
            Fix::words(
                "allow the client refresh tokens at the provider; some give them without offline_access, then leave it out of gateway.oidc.scopes",
            ),
        )
    })
}

fn logout(provider: &Provider) -> Status {
    by_document(provider, |document, settings| {
        let origin = settings.redirect_url.origin().ascii_serialization();
        if document.backchannel_logout_supported {
            return Status::pass(format!(
                "it can tell {origin}/backchannel-logout, where that is registered"
            ));
        }
        Status::fail(
            "the provider does not say that it has back-channel logout",
            "backchannel_logout_supported is false or missing",
            "true",
            Fix::words(format!(
                "switch it on at the provider and register {origin}/backchannel-logout"
            )),
        )
    })
}

fn asked_in_vain(what: impl Display, error: &SurveyError) -> Status {
    Status::fail(
        format!("the provider does not answer at {what}: {error}"),
        error.to_string(),
        "an answer",
        Fix::words("see that every address in the discovery document can be reached from here, and the provider's log"),
    )
}
