// Whether everybody can use the page: on a phone, in both themes, by WCAG 2.2 AA as far as axe can tell.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { assertNothingReported, buy, openBrowser, openPage, says } from './browser.mjs';
import { Server } from './server.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const NARROW = { width: 320, height: 640 };
const TARGET_PIXELS = 24;
/** The pictures of the README. */
const PICTURES = { desktop: { width: 1024, height: 820 }, phone: { width: 360, height: 740 } };

const ADMIN = { email: 'admin@example.com', password: 'correct horse' };

let servers;
let browser;

before(async () => {
  const starting = [Server.pipeline(), Server.pipeline({ AUTH: 'jwt', ADMIN_EMAIL: ADMIN.email, ADMIN_PASSWORD: ADMIN.password }), Server.withoutKafka()];
  [browser, ...servers] = await Promise.all([openBrowser(), ...starting]);
});

after(async () => {
  await browser.close();
  await Promise.all(servers.map((server) => server.end()));
});

async function adminToken(server) {
  const headers = { 'Content-Type': 'application/json' };
  const answer = await fetch(`${server.url}/login`, { method: 'POST', headers, body: JSON.stringify(ADMIN) });
  return (await answer.json()).access_token;
}

/** The page in each state that looks different, one after the other. */
async function eachState(options, look) {
  const [open, asking, shut] = servers;
  const page = async (server) => openPage(await browser.newContext(options), server);
  const bought = await page(open);
  await buy(bought, { username: 'Ann with a very long name indeed '.repeat(4), userid: 'ann', price: '999999999999999.9999' });
  await bought.locator('#history li').first().waitFor();
  await buy(bought, { username: '', price: 'none' });
  await says(bought, 'buy-form', 'Name is missing');
  await look('bought', bought);
  const signedOut = await page(asking);
  await signedOut.locator('#sign-in').waitFor();
  await signedOut.getByText('Make an account').click();
  await look('signed out', signedOut);
  const waiting = await page(shut);
  await buy(waiting, { username: 'Ann', userid: 'ann', price: '1' });
  await says(waiting, 'outgoing', 'waiting');
  await look('kafka away', waiting);
  const extraHTTPHeaders = { Authorization: `Bearer ${await adminToken(asking)}` };
  const accounts = await openPage(await browser.newContext({ ...options, extraHTTPHeaders }), asking, '/accounts_page');
  await accounts.getByText(ADMIN.email).waitFor();
  assert.notEqual(await accounts.evaluate(() => getComputedStyle(document.body).maxWidth), 'none', 'the style is there');
  await look('accounts', accounts);
  for (const shown of [bought, signedOut, waiting, accounts]) {
    assertNothingReported(shown);
    await shown.context().close();
  }
}

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in the ${colorScheme} theme`, async () => {
    await eachState({ colorScheme, bypassCSP: true }, async (state, page) => {
      await page.evaluate(AXE);
      const { violations, passes } = await page.evaluate(
        (values) => globalThis.axe.run(document, { runOnly: { type: 'tag', values } }),
        RULES,
      );
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], state);
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), state);
    });
  });
}

test('at 320 pixels nothing is to be scrolled sideways, and all targets are large enough', async () => {
  await eachState({ viewport: NARROW }, async (state, page) => {
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width, state);
    for (const target of await page.locator('a, button, input, summary').all()) {
      const box = await target.boundingBox();
      const name = `${state}: ${await target.evaluate((element) => element.outerHTML)}`;
      assert.ok(!box || (box.width >= TARGET_PIXELS && box.height >= TARGET_PIXELS), name);
      assert.ok(!box || box.x + box.width <= NARROW.width, name);
    }
  });
});

test('the pictures of the README can be made', async () => {
  for (const [name, viewport] of Object.entries(PICTURES)) {
    const page = await openPage(await browser.newContext({ viewport, colorScheme: name === 'phone' ? 'dark' : 'light' }), servers[0]);
    for (const price of ['4.20', '129.00', '19.90']) {
      await buy(page, { username: 'Ann', userid: `ann-${name}`, price });
      await says(page, 'announcement', `Recorded: ${price}, Ann.`);
    }
    await says(page, 'live', 'on');
    // They differ in their times each time: only who asks for it has them made anew.
    const path = process.env.PICTURES ? `${process.env.PICTURES}/page-${name}.png` : undefined;
    const picture = await page.screenshot({ path });
    assert.ok(picture.length > 0);
  }
});
