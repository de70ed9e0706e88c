// xterm writes its theme into <style> elements, which the Content-Security-Policy refuses. It is given a document whose style
// elements are constructed style sheets instead: those belong to a script that was allowed to run.

/** `document`, but for what `createElement('style')` gives. */
export function documentWithoutStyleElements(document: Document): Document {
  return new Proxy(document, {
    get(target, key) {
      if (key === 'createElement') {
        return (name: string, options?: ElementCreationOptions) =>
          name.toLowerCase() === 'style' ? styleSheetElement(target) : target.createElement(name, options);
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** An element that shows nothing and whose text is a style sheet of the document. */
function styleSheetElement(document: Document): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  const element = document.createElement('span');
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
