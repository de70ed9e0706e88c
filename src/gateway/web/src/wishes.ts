// What the user wants of the workspace, told to the gateway. The browser adds the Origin that proves it is our page.

export type Wish = 'restart' | 'keep-working';

/** Nothing when it was taken; otherwise why it was not, for the user. */
export async function wish(what: Wish): Promise<string | undefined> {
  try {
    const response = await fetch(`/api/workspace/${what}`, { method: 'POST', headers: { accept: 'application/json' } });
    if (response.ok) return undefined;
    const { message, requestId } = (await response.json()) as { message?: string; requestId?: string };
    return `${message ?? 'The gateway refused it.'} (request ${requestId ?? 'unknown'})`;
  } catch {
    return 'The gateway could not be reached. Try again when the connection is back.';
  }
}
