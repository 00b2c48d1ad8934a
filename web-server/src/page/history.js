// What a user has bought, newest first, and above it what is on its way.

import { amount, byId, count, element, moment } from './elements.js';

/** Purchases that are shown. */
export const SHOWN_MAX = 50;
/** After the point. */
const DIGITS = 4;
const STATES = {
  sending: ['wait', 'sending'],
  waiting: ['bad', 'waiting'],
  old: ['bad', 'not sent'],
  refused: ['bad', 'not recorded'],
  accepted: ['wait', 'accepted'],
  recorded: ['good', 'recorded'],
};

let shown = [];
let all;
let total;

/** Shows what the server has told of a user, if anything yet, and gives what of it is news. */
export function showHistory({ purchases = [], count: number, total_spent: spent } = {}) {
  const news = total === undefined ? [] : purchases.filter((purchase) => !isShown(purchase.purchase_id));
  shown = purchases;
  all = number;
  total = spent === undefined ? undefined : units(spent);
  render();
  return news;
}

/** Puts a purchase on top that was recorded now; where nothing is known yet it comes with the rest. */
export function addRecorded(purchase) {
  if (total === undefined || isShown(purchase.purchase_id)) return;
  shown = [purchase, ...shown].slice(0, SHOWN_MAX);
  all += 1;
  total += units(purchase.price);
  render();
}

/** The ids of what is shown. */
export const shownIds = () => shown.map((purchase) => purchase.purchase_id);

/** Shows what is on its way, but for what is recorded already. */
export function showOutgoing(entries) {
  const rows = entries.filter(({ purchaseId }) => !isShown(purchaseId)).map((entry) => {
    const made = row({ ...entry, timestamp: new Date(entry.at).toISOString() }, entry.state);
    if (entry.words) made.append(element('span', 'words', entry.words));
    for (const [name, word] of choices(entry)) {
      const button = element('button', '', word);
      Object.assign(button, { name, id: `${name}-${entry.key}`, value: entry.key });
      made.append(button);
    }
    return made;
  });
  const list = byId('outgoing');
  const next = list.cloneNode();
  next.append(...rows);
  if (next.isEqualNode(list)) return;
  const focused = list.contains(document.activeElement) && document.activeElement.id;
  list.replaceChildren(...rows);
  if (focused) (byId(focused) ?? byId('purchases')).focus();
}

/** What may be done about it: its name in `outgoing`, and in words. */
function choices({ state, isUnsent }) {
  const drop = ['drop', isUnsent ? 'Withdraw' : 'Forget'];
  if (state === 'old') return [['again', 'Send'], drop];
  if (state === 'waiting') return isUnsent ? [drop] : [];
  return state === 'refused' ? [['drop', 'Dismiss']] : [];
}

function isShown(purchaseId) {
  return shownIds().includes(purchaseId);
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

/** An amount in its smallest units. */
function units(text) {
  const [whole, fraction = ''] = text.split('.');
  return BigInt(whole + fraction.padEnd(DIGITS, '0').slice(0, DIGITS));
}

function digits(amountUnits) {
  const text = String(amountUnits).padStart(DIGITS + 1, '0');
  return `${text.slice(0, -DIGITS)}.${text.slice(-DIGITS)}`;
}
