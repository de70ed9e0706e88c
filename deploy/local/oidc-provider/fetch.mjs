// Turns the provider's outgoing calls (back-channel logout) into calls that may reach this machine, and only then loopback.
//
// oidc-provider refuses special-use addresses, so that a registered URL cannot be used to reach inside a network. The clients
// of this provider are in its configuration and on this machine, so names that mean loopback are let through, to loopback.
import { lookup } from 'node:dns';
import http from 'node:http';
import https from 'node:https';

const isLoopback = (hostname) => hostname === '127.0.0.1' || hostname === 'localhost' || hostname.endsWith('.localhost');

// RFC 6761: *.localhost is loopback. Not every resolver knows that.
const toLoopback = (_hostname, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));

export function loopbackFetch(input, options = {}) {
  const url = new URL(input);
  if (!isLoopback(url.hostname)) return fetch(input, options);
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? https : http).request(url, {
      method: options.method ?? 'GET',
      headers: Object.fromEntries(new Headers(options.headers)),
      lookup: url.hostname === '127.0.0.1' ? lookup : toLoopback,
      signal: options.signal ?? AbortSignal.timeout(5000),
    }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const body = Buffer.concat(chunks);
        resolve(new Response(body.length > 0 ? body : null, { status: answer.statusCode, headers: answer.headers }));
      });
    });
    request.on('error', reject);
    request.end(options.body === undefined || options.body === null ? undefined : String(options.body));
  });
}
