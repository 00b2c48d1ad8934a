// How the system stands, in words.

import { announce, byId, count, show } from './elements.js';

const KEPT = 'What you buy is kept in this browser and sent by itself.';
const KAFKA = { true: 'reachable', false: 'not reachable' };

/** Shows what the server says of itself, or `words` for why it does not. Gives whether all is well that was not before. */
export function showStatus(status, words) {
  byId('lag').textContent = lag(status);
  byId('replicas').textContent = status ? `${count(status.replicas_ready)} of ${count(status.replicas_total)}` : 'unknown';
  byId('kafka').textContent = KAFKA[status?.is_kafka_reachable] ?? 'unknown';
  const text = status ? trouble(status) : `${words} ${KEPT}`;
  if (text === byId('trouble').textContent) return false;
  show(byId('trouble'), text);
  announce(text || 'All is well again.');
  return !text;
}

/** Shows whether news come by themselves. */
export function showLive(isLive) {
  byId('live').textContent = isLive ? 'on' : 'off';
}

function lag(status) {
  if (!status || status.consumer_lag_records === null) return 'unknown';
  const { consumer_lag_records: records, consumer_lag_seconds: seconds } = status;
  return records === 0 ? 'none' : `${count(records)} purchases, ${count(Math.ceil(seconds))} s`;
}

function trouble(status) {
  if (!status.is_kafka_reachable) return `Kafka is not reachable: nothing can be bought now. ${KEPT}`;
  if (status.auth === 'api_key') return 'This server takes API keys alone, which this page does not use.';
  if (status.replicas_ready === 0) return 'No replica of management-api is ready: what you buy is recorded later.';
  return '';
}
