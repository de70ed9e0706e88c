// Turns a JSON configuration into a running OpenID Connect provider for local use and tests: any password signs a known user in.
//
//   node provider.mjs --config FILE.json
//
// Prints "ready <issuer>" on stdout once every address listens. See README.md for the configuration.
import './warnings.mjs'; // before oidc-provider, which warns when it is loaded
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';
import { ConfigError, readConfig } from './config.mjs';
import { loopbackFetch } from './fetch.mjs';
import { signingKeys } from './keys.mjs';
import { handleSignIn } from './sign-in.mjs';
import { endSessionPage, signedOutPage } from './pages.mjs';

const SCOPE = 'openid email profile groups offline_access';

function account(users, id) {
  const user = Object.hasOwn(users, id) ? users[id] : undefined;
  return user && {
    accountId: id,
    claims: async () => ({
      sub: id,
      preferred_username: id,
      email: user.email ?? `${id}@example.test`,
      email_verified: user.emailVerified ?? true,
      groups: user.groups ?? [],
    }),
  };
}

function client(settings) {
  return {
    client_id: settings.id,
    client_secret: settings.secret,
    redirect_uris: settings.redirectUris,
    post_logout_redirect_uris: settings.postLogoutRedirectUris,
    grant_types: ['authorization_code', ...(settings.refresh === false ? [] : ['refresh_token'])],
    response_types: ['code'],
    id_token_signed_response_alg: 'RS256',
    ...(settings.backchannelLogoutUri && {
      backchannel_logout_uri: settings.backchannelLogoutUri,
      backchannel_logout_session_required: true,
    }),
  };
}

// Nobody is asked for consent: the first sign-in of a user at a client grants what a client may ever ask for.
async function grantAtOnce(ctx) {
  const { client: asking, session, result, provider } = ctx.oidc;
  const known = result?.consent?.grantId ?? session.grantIdFor(asking.clientId);
  const existing = known && await provider.Grant.find(known);
  if (existing) return existing;
  const grant = new provider.Grant({ clientId: asking.clientId, accountId: session.accountId });
  grant.addOIDCScope(SCOPE);
  await grant.save();
  return grant;
}

function makeProvider(config) {
  return new Provider(config.issuer, {
    jwks: { keys: signingKeys(config.jwksFile) },
    clients: config.clients.map(client),
    scopes: SCOPE.split(' '),
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username', 'groups'], groups: ['groups'] },
    // The claims belong in the ID token: the gateway reads nothing else.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: [config.cookieKey] },
    findAccount: (_ctx, id) => account(config.users, id),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false }, // its pages fetch a font from the internet
      rpInitiatedLogout: { enabled: true, logoutSource: endSessionPage, postLogoutSuccessSource: signedOutPage },
      backchannelLogout: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
    },
    fetch: loopbackFetch,
    loadExistingGrant: grantAtOnce,
    issueRefreshToken: async (_ctx, asking) => asking.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    ttl: {
      AuthorizationCode: 60, Interaction: 600,
      AccessToken: config.ttl.accessToken, IdToken: config.ttl.idToken, RefreshToken: config.ttl.refreshToken,
      Session: config.ttl.session, Grant: config.ttl.session,
    },
  });
}

function serve(config, provider) {
  const oidc = provider.callback();
  const answer = (req, res) => (req.url.startsWith('/interaction/') ? handleSignIn(provider, config, req, res) : oidc(req, res));
  const tls = config.tls && { cert: readFileSync(config.tls.cert), key: readFileSync(config.tls.key) };
  return config.listen.map(({ host, port }) => new Promise((resolve, reject) => {
    const server = tls ? createHttps(tls, answer) : createHttp(answer);
    server.once('error', (error) => reject(new ConfigError(`listen: cannot listen on ${host}:${port} (${error.code})`)));
    server.listen(port, host, () => resolve(server));
  }));
}

try {
  const config = readConfig(process.argv.slice(2));
  const provider = makeProvider(config);
  provider.on('server_error', (_ctx, error) => console.error('server error:', error));
  provider.on('backchannel.error', (_ctx, error, asking) => console.error('back-channel logout of', asking.clientId, 'failed:', error.message));
  const servers = await Promise.all(serve(config, provider));
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      for (const server of servers) {
        server.close();
        server.closeAllConnections();
      }
    });
  }
  console.log(`ready ${config.issuer}`);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`error: ${error.message}\nhint: the configuration is described in the README beside provider.mjs`);
  process.exit(64);
}
