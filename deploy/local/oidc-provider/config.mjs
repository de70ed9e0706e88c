// Turns the command line and a JSON file into a checked configuration, or into one error that lists every problem.
import { readFileSync } from 'node:fs';

export class ConfigError extends Error {}

const DEFAULT_TTL = { accessToken: 300, idToken: 300, refreshToken: 86400, session: 86400 };

export function readConfig(args) {
  if (args.length !== 2 || args[0] !== '--config') throw new ConfigError('usage: node provider.mjs --config FILE.json');
  let raw;
  try {
    raw = JSON.parse(readFileSync(args[1], 'utf8'));
  } catch (error) {
    throw new ConfigError(`${args[1]}: expected a readable JSON file (${error.message})`);
  }
  return checkConfig(raw, args[1]);
}

export function checkConfig(raw, file = 'configuration') {
  const problems = [];
  const expect = (holds, key, value, what) => holds || problems.push(`${key}: ${JSON.stringify(value)}; expected ${what}`);
  const known = ['issuer', 'listen', 'tls', 'jwksFile', 'cookieKey', 'clients', 'users', 'ttl'];
  for (const key of Object.keys(raw)) expect(known.includes(key), key, '...', `one of ${known.join(', ')}`);

  const issuer = URL.canParse(raw.issuer) ? new URL(raw.issuer) : undefined;
  const scheme = raw.tls ? 'https:' : 'http:';
  expect(issuer?.protocol === scheme, 'issuer', raw.issuer, `a URL with ${scheme}// (${raw.tls ? 'tls is' : 'no tls is'} configured)`);
  const listen = (raw.listen ?? (issuer ? [`127.0.0.1:${issuer.port}`] : [])).map((address) => {
    const match = /^(.+):(\d{1,5})$/.exec(address);
    expect(match, 'listen', address, 'host:port');
    return { host: match?.[1], port: Number(match?.[2]) };
  });
  if (raw.tls) expect(raw.tls.cert && raw.tls.key, 'tls', Object.keys(raw.tls), 'the paths cert and key');
  expect(Array.isArray(raw.clients) && raw.clients.length > 0, 'clients', raw.clients && '...', 'at least one client');
  for (const [index, client] of (raw.clients ?? []).entries()) {
    expect(client.id, `clients[${index}].id`, client.id, 'a client id');
    expect(client.secret?.length >= 16, `clients[${index}].secret`, '(not shown)', 'at least 16 characters');
    expect(client.redirectUris?.length > 0, `clients[${index}].redirectUris`, client.redirectUris, 'at least one URL');
  }
  expect(Object.keys(raw.users ?? {}).length > 0, 'users', raw.users, 'an object with a user per key');
  const ttl = { ...DEFAULT_TTL, ...raw.ttl };
  for (const [key, value] of Object.entries(ttl)) {
    expect(key in DEFAULT_TTL && Number.isInteger(value) && value > 0, `ttl.${key}`, value, `whole seconds for one of ${Object.keys(DEFAULT_TTL).join(', ')}`);
  }
  if (problems.length > 0) throw new ConfigError(`${file}:\n  ${problems.join('\n  ')}`);

  return {
    issuer: raw.issuer, listen, tls: raw.tls, jwksFile: raw.jwksFile, ttl, users: raw.users,
    cookieKey: raw.cookieKey ?? 'only-ever-signs-cookies-of-a-local-provider',
    clients: raw.clients.map((client) => ({ postLogoutRedirectUris: [], ...client })),
  };
}
