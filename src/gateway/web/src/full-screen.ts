// Full screen, where a browser that can (Keyboard Lock) leaves its own keys to the page, such as Ctrl+W and Ctrl+T.

interface Keyboard {
  lock?(keys: string[]): Promise<void>;
}

/** Keys that the browser would take. Escape leaves full screen when it is held. */
const KEYS = ['KeyW', 'KeyT', 'KeyN', 'Tab', 'Escape'];

export function fullScreen(button: HTMLButtonElement, entered: () => void): void {
  const root = document.documentElement;
  button.hidden = !document.fullscreenEnabled;
  button.onclick = async () => {
    if (document.fullscreenElement) return document.exitFullscreen();
    try {
      await root.requestFullscreen();
      await (navigator as Navigator & { keyboard?: Keyboard }).keyboard?.lock?.(KEYS);
    } catch {
      // The browser does not want it, or knows no such lock: then its own keys stay its own.
    }
    entered();
  };
  document.addEventListener('fullscreenchange', () => {
    button.ariaPressed = String(document.fullscreenElement !== null);
  });
}
