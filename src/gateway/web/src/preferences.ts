// What a user has chosen for this browser, kept in its localStorage.

export interface Preferences {
  /** In CSS pixels. */
  fontSize: number;
  theme: 'system' | 'dark' | 'light';
  screenReader: boolean;
  barHidden: boolean;
}

export const FONT_SIZES = { least: 8, most: 32, usual: 14 };
const THEMES = ['system', 'dark', 'light'] as const;

/** The storage, or nothing where the browser forbids it. */
export type Store = Pick<Storage, 'getItem' | 'setItem'>;

export function read(store: Store | undefined): Preferences {
  const get = (name: string) => store?.getItem(`devplane.${name}`) ?? '';
  const fontSize = Number(get('fontSize')) || FONT_SIZES.usual;
  return {
    fontSize: Math.min(FONT_SIZES.most, Math.max(FONT_SIZES.least, Math.round(fontSize))),
    theme: THEMES.find((theme) => theme === get('theme')) ?? 'system',
    screenReader: get('screenReader') === 'true',
    barHidden: get('barHidden') === 'true',
  };
}

export function write(store: Store | undefined, preferences: Preferences): void {
  try {
    for (const [name, value] of Object.entries(preferences)) store?.setItem(`devplane.${name}`, String(value));
  } catch {
    // Full or forbidden: the choice then holds until the page is left.
  }
}

export function browserStore(): Store | undefined {
  try {
    return localStorage;
  } catch {
    return undefined;
  }
}
