// What is on the page. Text is only ever set as text.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with a class and content. */
export function element(tag, name, ...content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...content);
  return made;
}

/** Shows a text in an element, or hides it. */
export function show(shown, text) {
  shown.textContent = text;
  shown.hidden = !text;
}

/** Says something, also to who listens to a screen reader. The focus stays where it is. */
export function announce(text) {
  byId('announcement').textContent = text;
}

/** The values of a form's fields by their names, without white space around them; passwords to the letter. */
export function values(form) {
  const inputs = [...form.querySelectorAll('input')];
  return Object.fromEntries(inputs.map(({ name, type, value }) => [name, type === 'password' ? value : value.trim()]));
}

/** Shows what is wrong with a form: `errors` name fields, `words` are about all of it. */
export function showMistakes(form, errors = [], words = '') {
  const mistakes = form.querySelector('.mistakes');
  mistakes.id ||= `${form.id}-mistakes`;
  const lines = [];
  const bad = [];
  for (const input of form.querySelectorAll('input')) {
    const found = errors.filter(({ field }) => field === input.name);
    input.setAttribute('aria-invalid', found.length > 0);
    input.setAttribute('aria-describedby', found.length ? mistakes.id : '');
    if (found.length) bad.push(input);
    lines.push(...found.map(({ message }) => `${input.closest('label').firstChild.textContent.trim()} ${message}.`));
  }
  show(mistakes, lines.join('\n') || words);
  if (mistakes.hidden) return;
  announce(mistakes.textContent);
  if (form.contains(document.activeElement)) bad[0]?.focus();
}

const amounts = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 4 });
const counts = new Intl.NumberFormat('en');
const times = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** An amount, from its exact digits. */
export const amount = (digits) => amounts.format(digits);

/** A whole number. */
export const count = (number) => counts.format(number);

/** A moment in the reader's time. */
export function moment(text) {
  const shown = element('time', '', times.format(new Date(text)));
  shown.dateTime = text;
  return shown;
}
