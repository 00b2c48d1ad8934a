// Calls to the server. Whatever happens, there is an answer, and it has words.

/** How long an answer may take, in milliseconds: longer than the server lets a purchase take. */
const TIMEOUT_MS = 20_000;

/**
 * Calls the server. The answer has `status` (0 when there was none), `json`, `text`, `words` for what is wrong, and `retryAfterMs`.
 */
export async function call(method, path, { body, headers = {}, keepalive = false } = {}) {
  const sent = body === undefined ? {} : { 'Content-Type': 'application/json' };
  try {
    const response = await fetch(path, {
      method,
      headers: { ...sent, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      keepalive,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return await read(response);
  } catch {
    return { status: 0, json: {}, text: '', retryAfterMs: 0, words: 'The server cannot be reached.' };
  }
}

/** An answer that was read to its end. */
export async function read(response) {
  const text = await response.text();
  const json = parse(text);
  const retryAfterMs = 1000 * (Number(response.headers.get('Retry-After')) || 0);
  return { status: response.status, json, text, retryAfterMs, words: response.ok ? '' : sentence(json.detail) };
}

/** JSON with its amounts as their exact digits: as numbers they would be rounded. */
export function parse(text) {
  // Inside a JSON text no quote stands without a backslash, so that this is never part of one.
  const exact = text.replace(/"(price|total_spent)":(-?[\d.eE+-]+)/g, '"$1":"$2"');
  try {
    return JSON.parse(exact);
  } catch {
    return {};
  }
}

/** What the server says, as a sentence. */
function sentence(detail) {
  if (!detail) return 'The server could not do it.';
  return `${detail[0].toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? '' : '.'}`;
}
