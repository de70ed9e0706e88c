// Turns a file path into the provider's signing keys: made once, kept in that file, so that tokens outlive a restart.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

export function signingKeys(file) {
  if (file && existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')).keys;
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  const keys = [{ ...key, use: 'sig', alg: 'RS256', kid: randomUUID() }];
  if (file) writeFileSync(file, JSON.stringify({ keys }), { mode: 0o600 });
  return keys;
}
