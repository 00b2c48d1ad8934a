// Whether everybody can use the page: on a phone, in both themes, by WCAG 2.2 AA as far as axe can tell.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { assertNothingReported, buy, openBrowser, openPage, says } from './browser.mjs';
import { eventually, Server } from './server.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const NARROW = { width: 320, height: 640 };
const TARGET_PIXELS = 24;
const GROUNDS = { light: 'rgb(246, 247, 249)', dark: 'rgb(20, 23, 27)' };
/** The pictures of the README. */
const PICTURES = { desktop: { width: 1024, height: 820 }, phone: { width: 360, height: 740 } };

const ADMIN = { email: 'admin@example.com', password: 'correct horse' };

let servers;
let browser;
/** The page in each state that looks different. */
let states;

before(async () => {
  const admin = { ADMIN_EMAIL: ADMIN.email, ADMIN_PASSWORD: ADMIN.password, RATE_LIMIT_LOGIN_PER_MINUTE: '0' };
  const starting = [Server.pipeline(), Server.pipeline({ AUTH: 'jwt', ...admin }), Server.withoutKafka()];
  [browser, ...servers] = await Promise.all([openBrowser(), ...starting]);
  const [open, asking, shut] = servers;
  const pages = await Promise.all([bought(open), signedOut(asking), waiting(shut), accounts(asking)]);
  states = ['bought', 'signed out', 'waiting', 'accounts'].map((name, place) => [name, pages[place]]);
});

after(async () => {
  await browser.close();
  await Promise.all(servers.map((server) => server.end()));
});

/** A tab of a phone; axe is no script of the page's own. */
const phone = (options) => browser.newContext({ viewport: NARROW, bypassCSP: true, ...options });

async function bought(server) {
  const page = await openPage(await phone(), server);
  await buy(page, { username: 'Ann with a very long name indeed '.repeat(4), userid: 'ann', price: '999999999999999.9999' });
  await page.locator('#history li').first().waitFor();
  await buy(page, { username: '', price: 'none' });
  await says(page, 'buy-form', 'Name is missing');
  return page;
}

async function signedOut(server) {
  const page = await openPage(await phone(), server);
  await page.locator('#sign-in').waitFor();
  await page.getByText('Make an account').click();
  return page;
}

async function waiting(server) {
  const page = await openPage(await phone(), server);
  await buy(page, { username: 'Ann', userid: 'ann', price: '1' });
  await says(page, 'outgoing', 'waiting');
  return page;
}

async function accounts(server, options) {
  const headers = { 'Content-Type': 'application/json' };
  const { access_token: token } = await eventually('the administrator can sign in', async () => {
    const login = await fetch(`${server.url}/login`, { method: 'POST', headers, body: JSON.stringify(ADMIN) });
    return login.ok && login.json();
  });
  const context = await phone({ extraHTTPHeaders: { Authorization: `Bearer ${token}` }, ...options });
  const page = await openPage(context, server, '/accounts_page');
  await page.getByText(ADMIN.email).waitFor();
  return page;
}

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in the ${colorScheme} theme`, async () => {
    const grounds = new Set();
    for (const [state, page] of states) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(AXE);
      const { violations, passes } = await page.evaluate(
        (values) => globalThis.axe.run(document, { runOnly: { type: 'tag', values } }),
        RULES,
      );
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], state);
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), state);
      grounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    }
    assert.deepEqual([...grounds], [GROUNDS[colorScheme]], 'all pages have the style of the theme');
  });
}

test('at 320 pixels nothing is to be scrolled sideways, and all targets are large enough', async () => {
  for (const [state, page] of states) {
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width, state);
    for (const target of await page.locator('a, button, input, summary').all()) {
      const box = await target.boundingBox();
      const name = `${state}: ${await target.evaluate((element) => element.outerHTML)}`;
      assert.ok(!box || (box.width >= TARGET_PIXELS && box.height >= TARGET_PIXELS), name);
      assert.ok(!box || box.x + box.width <= NARROW.width, name);
    }
    assertNothingReported(page);
  }
});

test('the pages keep to their policies, and what does not is reported', async () => {
  for (const [server, path] of [[servers[0], '/'], [servers[1], '/accounts_page']]) {
    const page = path === '/' ? await openPage(await browser.newContext(), server) : await accounts(server, { bypassCSP: false });
    assertNothingReported(page);
    await page.evaluate(() => {
      const style = document.createElement('style');
      style.textContent = 'body { display: none }';
      document.head.append(style);
    });
    await eventually(`${path} reports it`, () => page.reported.includes('violated: style-src-elem'));
  }
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
