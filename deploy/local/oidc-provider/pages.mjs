// Turns what the provider has to say into HTML pages that need nothing but themselves.
import { createHash } from 'node:crypto';

const STYLE = `:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0}
main{width:min(22rem,90vw)}label{display:block;margin:.75rem 0}input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem}
button{font:inherit;padding:.5rem 1rem;margin-top:.5rem}.error{color:#c0262d}small{opacity:.75}`;
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

export const escapeHtml = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

// form-action also judges where a form's answer redirects to, so the clients' origins belong in it.
export function contentSecurityPolicy(formOrigins) {
  return `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; form-action 'self' ${formOrigins.join(' ')}; base-uri 'none'; frame-ancestors 'none'`;
}

const page = (title, body) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${STYLE}</style></head>
<body><main><h1>${title}</h1>${body}</main></body></html>`;

export function signInPage({ uid, users, login, error }) {
  return page('Sign in', `
<form method="post" action="/interaction/${escapeHtml(uid)}">
${error ? `<p class="error" role="alert">${escapeHtml(error)}</p>` : ''}
<label>Login <input name="login" autocomplete="username" autofocus required value="${escapeHtml(login ?? '')}"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button type="submit">Sign in</button>
</form>
<p><small>Local sign-in provider. Users: ${users.map(escapeHtml).join(', ')}; any password.</small></p>`);
}

export const messagePage = (title, text) => page(title, `<p>${escapeHtml(text)}</p>`);

export async function endSessionPage(ctx, form) {
  ctx.body = page('Sign out', `${form}
<p>Sign out of the local sign-in provider?</p>
<button type="submit" form="op.logoutForm" name="logout" value="yes" autofocus>Sign out</button>`);
}

export async function signedOutPage(ctx) {
  ctx.body = messagePage('Signed out', 'You are signed out of the local sign-in provider.');
}
