# shellcheck shell=bash
# Turns the oidc-provider package into the local sign-in provider, and keeps the secrets that it shares with the gateway.

IDENTITY=$STATE/identity

# made SECRET-FILE: 32 random bytes, made once per state directory.
made() { [ -s "$1" ] || (umask 077 && openssl rand -hex 32 >"$1"); }

start_identity() {
  local program
  program=$("$LOCAL_SRC/oidc-provider.sh" 2>"$STATE/logs/oidc-provider-install.log") ||
    fail "the sign-in provider's npm packages could not be installed: $(tail -n 1 "$STATE/logs/oidc-provider-install.log")" \
      "check that the npm registry of 'npm config get registry' answers" "the whole output: $STATE/logs/oidc-provider-install.log"
  (umask 077 && mkdir -p "$IDENTITY")
  made "$IDENTITY/client-secret"
  made "$IDENTITY/cookie-key"
  (
    umask 077
    jq -n --arg issuer "$ISSUER_URL" --arg url "$GATEWAY_URL" --arg client "$OIDC_CLIENT_ID" --arg dir "$IDENTITY" --arg pki "$PKI" \
      --arg node "$NODE_IP" --arg port "$IDP_PORT" --rawfile secret "$IDENTITY/client-secret" --rawfile cookie "$IDENTITY/cookie-key" '{
        issuer: $issuer,
        listen: ["127.0.0.1:\($port)", "\($node):\($port)"],
        tls: {cert: "\($pki)/idp.crt", key: "\($pki)/idp.key"},
        jwksFile: "\($dir)/jwks.json",
        cookieKey: ($cookie | rtrimstr("\n")),
        clients: [{
          id: $client, secret: ($secret | rtrimstr("\n")),
          redirectUris: ["\($url)/callback"],
          postLogoutRedirectUris: ["\($url)/", $url]
        }],
        users: {
          dev1: {email: "dev1@example.test", groups: ["developers"]},
          dev2: {email: "dev2@example.test", groups: ["developers"]}
        }
      }' | put "$IDENTITY/provider.json"
  )
  # The local CA, so that the provider can call the gateway back.
  start oidc-provider --reads "$IDENTITY/provider.json" --reads "$PKI/idp.crt" -- \
    env NODE_EXTRA_CA_CERTS="$PKI/local-ca.crt" node "$program/provider.mjs" --config "$IDENTITY/provider.json"
  wait_for 30 "the sign-in provider" "$STATE/logs/oidc-provider.log" \
    curl -fsS --noproxy '*' --cacert "$PKI/local-ca.crt" "$ISSUER_URL/.well-known/openid-configuration"
}
