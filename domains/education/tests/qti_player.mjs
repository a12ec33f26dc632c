// Plays QTI items in @citolab/qti-components (Cito's player), in happy-dom instead of a browser.
// In: JSON [{xml, responses}] on standard input. Out: JSON, for each item [[score, feedback], ...] a response.
import fs from 'node:fs';
import { Window } from 'happy-dom';

const page = new Window({ url: 'http://localhost/' });
const shared = ['Event', 'CustomEvent', 'EventTarget', 'navigator'];  // node has its own, which a page does not take
const missing = Object.getOwnPropertyNames(page).filter((name) => !(name in globalThis));
for (const name of [...missing, ...shared]) {
  Object.defineProperty(globalThis, name, { value: page[name], configurable: true, writable: true });
}
globalThis.window = page;
// happy-dom has no form-associated elements; the player only announces its fields by them
page.HTMLElement.prototype.attachInternals = () => ({
  setValidity() {}, setFormValue() {}, checkValidity: () => true, reportValidity: () => true, states: new Set(),
});
console.debug = () => {};
console.log = (...said) => console.error(...said);
await import('@citolab/qti-components');

async function mounted(xml) {
  // a browser parses children before it connects an element; here the item is connected first, then its parts
  const markup = xml.replace(/<\?xml[^>]*\?>/, '').replace(/<([a-z-]+)([^<>]*)\/>/g, '<$1$2></$1>');
  const aside = document.createElement('div');
  aside.innerHTML = markup;
  const whole = aside.querySelector('qti-assessment-item');
  const parts = [...whole.children];
  const item = whole.cloneNode(false);
  document.body.innerHTML = '';
  document.body.appendChild(item);
  await item.updateComplete;
  for (const part of parts) item.appendChild(part);
  await new Promise((done) => setTimeout(done, 5));
  return item;
}

const found = [];
for (const { xml, responses } of JSON.parse(fs.readFileSync(0, 'utf8'))) {
  const row = [];
  for (const response of responses) {
    const item = await mounted(xml);
    item.updateResponseVariable('RESPONSE', response);
    item.processResponse();
    const value = (name) => item._context.variables.find((one) => one.identifier === name)?.value ?? null;
    row.push([value('SCORE'), value('FEEDBACK')]);
  }
  found.push(row);
}
process.stdout.write(JSON.stringify(found), () => process.exit(0));
