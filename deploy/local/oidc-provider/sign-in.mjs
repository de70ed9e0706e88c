// Turns a browser's visit to /interaction/<uid> into a sign-in form, and the posted form into a signed-in user.
import { contentSecurityPolicy, messagePage, signInPage } from './pages.mjs';

const MAX_FORM = 16 * 1024;

async function readForm(req) {
  let text = '';
  for await (const chunk of req) {
    text += chunk;
    if (text.length > MAX_FORM) throw Object.assign(new Error('the form is too large'), { status: 413 });
  }
  return new URLSearchParams(text);
}

export async function handleSignIn(provider, config, req, res) {
  const origins = [...new Set(config.clients.flatMap((client) => client.redirectUris).map((uri) => new URL(uri).origin))];
  const send = (status, html) => {
    res.writeHead(status, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': contentSecurityPolicy(origins),
    });
    res.end(html);
  };
  try {
    const { uid, prompt } = await provider.interactionDetails(req, res);
    const users = Object.keys(config.users);
    if (prompt.name !== 'login') return send(400, messagePage('Cannot go on', `This provider does not know the prompt "${prompt.name}".`));
    if (req.method !== 'POST') return send(200, signInPage({ uid, users }));
    const form = await readForm(req);
    const login = form.get('login')?.trim() ?? '';
    if (!Object.hasOwn(config.users, login)) return send(401, signInPage({ uid, users, login, error: `There is no user "${login}" here.` }));
    if (!form.get('password')) return send(401, signInPage({ uid, users, login, error: 'A password is needed; any will do.' }));
    return await provider.interactionFinished(req, res, { login: { accountId: login } }, { mergeWithLastSubmission: false });
  } catch (error) {
    if (res.headersSent) return res.destroy();
    return send(error.status ?? error.statusCode ?? 400, messagePage('Sign-in ended', `${error.message}. Go back to the application and start again.`));
  }
}
