// Calls to the server. Whatever happens, there is an answer, and it has words.

/** Longer than the server lets a purchase take. */
const TIMEOUT_MS = 20_000;

/** The server's answer: `status` (0 when there was none), `json`, `text`, `words` for what is wrong, `retryAfterMs`. */
export async function call(method, path, { body, headers = {}, keepalive = false } = {}) {
  try {
    const response = await fetch(path, {
      method,
      headers: { ...(body && { 'Content-Type': 'application/json' }), ...headers },
      body: body && JSON.stringify(body),
      cache: 'no-store',
      keepalive,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await response.text();
    const json = parse(text);
    const retryAfterMs = 1000 * (Number(response.headers.get('Retry-After')) || 0);
    return { status: response.status, json, text, retryAfterMs, words: response.ok ? '' : sentence(json.detail) };
  } catch {
    return { status: 0, json: {}, words: 'The server cannot be reached.' };
  }
}

/** JSON with its amounts as their exact digits. */
export function parse(text) {
  // Inside a text no quote stands without a backslash: this is never part of one.
  const exact = text.replace(/"(price|total_spent)":(-?[\d.eE+-]+)/g, '"$1":"$2"');
  try {
    return JSON.parse(exact) ?? {};
  } catch {
    return {};
  }
}

function sentence(detail) {
  if (!detail) return 'There was no answer of the server.';
  return `${detail[0].toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? '' : '.'}`;
}
