// A real browser, and what people do with the page in it.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const TIMEOUT_MS = 15_000;
/** A host that browsers trust less than this machine, because it is another one without HTTPS. */
export const PLAIN_HOST = 'shop.test';

/** Debian's Chromium, or `CHROMIUM`. */
export function openBrowser() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  // Whoever runs as root, as CI does in a container, has no sandbox.
  const sandbox = process.getuid() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath, args: [`--host-resolver-rules=MAP ${PLAIN_HOST} 127.0.0.1`, ...sandbox] });
}

/** Opens the page in a new tab. What the browser reports of it, but for answers that are errors, is in `page.reported`. */
export async function openPage(context, server, path = '/', prepare = () => {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await prepare(page);
  page.reported = [];
  page.on('pageerror', (error) => page.reported.push(String(error)));
  page.on('dialog', (dialog) => page.reported.push(dialog.message()));
  page.on('console', (message) => {
    const isAnswer = message.text().startsWith('Failed to load resource');
    if (['error', 'warning'].includes(message.type()) && !isAnswer) page.reported.push(message.text());
  });
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', ({ violatedDirective }) => console.error(`violated: ${violatedDirective}`));
  });
  await page.goto(server.url + path);
  return page;
}

/** Fails when the browser has reported anything. */
export function assertNothingReported(page) {
  assert.deepEqual(page.reported, []);
}

/** The field of this label in the form for buying. */
export const field = (page, label) => page.locator('#buy-form').getByLabel(label);

/** Buys by the form. */
export async function buy(page, { username, userid, price }) {
  await field(page, 'Name').fill(username);
  if (userid) await field(page, 'User id').fill(userid);
  await field(page, 'Price').fill(price);
  await page.getByRole('button', { name: 'Buy' }).click();
}

/** Waits until so many purchases are shown, with this total. */
export async function shows(page, count, total) {
  const expected = [String(count), total].filter(Boolean);
  await page.waitForFunction(
    (wanted) => {
      const shown = ['count', 'total'].map((id) => document.getElementById(id).textContent);
      return wanted.every((text, place) => shown[place] === text);
    },
    expected,
  );
}

/** Waits until a text is on the page, in an element of this id. */
export async function says(page, id, text) {
  await page.locator(`#${id}`, { hasText: text }).waitFor();
}
