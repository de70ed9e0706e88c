// The page is as high as what is left of the window above a touch keyboard, where the browser lays that over the page (Safari on iOS).

interface View {
  height: number;
  offsetTop: number;
  /** Above 1 the user looks at a part of the page. */
  scale: number;
}

/** Less than this, in pixels, is a browser's bar and no keyboard. */
const KEYBOARD = 100;

/** The height of what is seen of a window, in pixels; nothing where no keyboard covers the page. */
export function heightLeft({ height, offsetTop, scale }: View, windowHeight: number): number | undefined {
  return scale > 1.01 || windowHeight - height - offsetTop < KEYBOARD ? undefined : height + offsetTop;
}

export function keepInView(): void {
  const view = window.visualViewport;
  if (!view) return;
  const fit = () => {
    const height = heightLeft(view, window.innerHeight);
    document.body.style.height = height === undefined ? '' : `${height}px`;
  };
  view.addEventListener('resize', fit);
  view.addEventListener('scroll', fit);
}
