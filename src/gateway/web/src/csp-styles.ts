// xterm writes its theme into <style> elements, which the Content-Security-Policy refuses. On this page such an element is a
// constructed style sheet instead: that belongs to a script that was allowed to run.

/** Makes `createElement('style')` give an element that shows nothing, and whose text is a style sheet of the document. */
export function constructStyleSheets(document: Document): void {
  const createElement = document.createElement.bind(document);
  document.createElement = (name: string, options?: ElementCreationOptions) =>
    name.toLowerCase() === 'style' ? styleSheetElement(document, createElement('span')) : createElement(name, options);
}

function styleSheetElement(document: Document, element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  element.hidden = true;
  let text = '';
  Object.defineProperty(element, 'textContent', {
    get: () => text,
    set: (value: string) => {
      text = value;
      sheet.replaceSync(value);
    },
  });
  element.remove = () => {
    Element.prototype.remove.call(element);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((adopted) => adopted !== sheet);
  };
  return element;
}
