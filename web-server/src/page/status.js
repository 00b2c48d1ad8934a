// How the system stands, in words.

import { announce, byId, count, show } from './elements.js';

const KEPT = 'What you buy is kept in this browser and sent by itself.';

/** Shows what the server says of itself; null when it says nothing. Gives whether all is well that was not before. */
export function showStatus(status) {
  byId('lag').textContent = lag(status);
  byId('replicas').textContent = status ? `${count(status.replicas_ready)} of ${count(status.replicas_total)}` : 'unknown';
  byId('kafka').textContent = kafka(status);
  const words = trouble(status);
  if (words === byId('trouble').textContent) return false;
  show(byId('trouble'), words);
  announce(words || 'All is well again.');
  return !words;
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

function kafka(status) {
  if (!status) return 'unknown';
  return status.is_kafka_reachable ? 'reachable' : 'not reachable';
}

function trouble(status) {
  if (!status) return `The server cannot be reached. ${KEPT}`;
  if (!status.is_kafka_reachable) return `Kafka is not reachable: nothing can be bought now. ${KEPT}`;
  if (status.auth === 'api_key') return 'This server takes API keys alone, which this page does not use.';
  if (status.replicas_ready === 0) return 'No replica of management-api is ready: what you buy is recorded later.';
  return '';
}
