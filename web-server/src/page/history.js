// What a user has bought: newest first, with the count and total of all of it, and above it what is on its way.

import { amount, byId, count, element, moment } from './elements.js';

/** So many purchases are shown. */
export const SHOWN_MAX = 50;
/** Amounts have four digits after the point. */
const DIGITS = 4;
const STATES = {
  sending: ['wait', 'sending'],
  waiting: ['bad', 'waiting'],
  accepted: ['wait', 'accepted'],
  recorded: ['good', 'recorded'],
};

let shown = [];
let all = 0;
let total;

/** Shows what the server has told of a user, and gives what of it is news; nothing is known yet if it has told nothing. */
export function showHistory({ purchases = [], count: number, total_spent: spent } = {}) {
  const news = total === undefined ? [] : purchases.filter((purchase) => !isShown(purchase.purchase_id));
  shown = purchases;
  all = number ?? 0;
  total = spent === undefined ? undefined : units(spent);
  render();
  return news;
}

/** Puts a purchase on top that was recorded now, unless it is there already, or nothing is known yet: then it comes with the rest. */
export function addRecorded(purchase) {
  if (total === undefined || isShown(purchase.purchase_id)) return;
  shown = [purchase, ...shown].slice(0, SHOWN_MAX);
  all += 1;
  total += units(purchase.price);
  render();
}

/** The ids of what is shown. */
export const shownIds = () => new Set(shown.map((purchase) => purchase.purchase_id));

/** Shows what is on its way, but for what is recorded already. */
export function showOutgoing(entries) {
  const rows = entries.filter(({ purchaseId }) => !isShown(purchaseId)).map((entry) => {
    const made = row({ ...entry, timestamp: new Date(entry.at).toISOString() }, entry.state);
    if (entry.words) made.append(element('span', 'words', entry.words));
    return made;
  });
  byId('outgoing').replaceChildren(...rows);
}

function isShown(purchaseId) {
  return shown.some((purchase) => purchase.purchase_id === purchaseId);
}

function render() {
  const isKnown = total !== undefined;
  byId('count').textContent = isKnown ? count(all) : '…';
  byId('total').textContent = isKnown ? amount(digits(total)) : '…';
  let note = '';
  if (isKnown && all === 0) note = 'Nothing was bought yet.';
  if (all > shown.length) note = `The newest ${shown.length} of ${count(all)}.`;
  byId('history-note').textContent = note;
  byId('history').replaceChildren(...shown.map((purchase) => row(purchase, 'recorded')));
}

function row({ price, username, timestamp }, state) {
  const [colour, word] = STATES[state];
  return element(
    'li',
    '',
    element('span', 'price', amount(price)),
    element('span', `state ${colour}`, word),
    element('span', 'who', username),
    moment(timestamp),
  );
}

/** An amount in its smallest units, from its exact digits. */
function units(text) {
  const [whole, fraction = ''] = text.split('.');
  return BigInt(whole + fraction.padEnd(DIGITS, '0').slice(0, DIGITS));
}

function digits(amountUnits) {
  const text = String(amountUnits).padStart(DIGITS + 1, '0');
  return `${text.slice(0, -DIGITS)}.${text.slice(-DIGITS)}`;
}
