// Many tabs of one browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNothingReported, buy, openBrowser, openPage, PLAIN_HOST, says, shows } from './browser.mjs';
import { eventually, Server } from './server.mjs';

const TABS = 10;

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([Server.pipeline(), openBrowser()]);
});

after(async () => {
  await browser.close();
  await server.end();
});

const hasOneStream = () => eventually('one stream', async () => (await server.metric('event_streams')) === 1);

test('ten tabs share one stream, and buying goes on in each', async () => {
  const context = await browser.newContext();
  const first = await openPage(context, server);
  await buy(first, { username: 'Ann', userid: 'tabs', price: '1' });
  await shows(first, 1);
  const others = await Promise.all(Array.from({ length: TABS - 1 }, () => openPage(context, server)));
  await Promise.all(others.map((page) => shows(page, 1)));
  await hasOneStream();
  const last = others.at(-1);
  await buy(last, { username: 'Ann', price: '2' });
  await Promise.all([first, ...others].map((page) => shows(page, 2, '3.00')));
  await first.close();
  await server.buy({ username: 'Ann', userid: 'tabs', price: 3 });
  await Promise.all(others.map((page) => shows(page, 3, '6.00')));
  await hasOneStream();
  for (const page of others) assertNothingReported(page);
  assert.equal(await server.metric('event_stream_resets_total'), 0);
});

test('without HTTPS, where browsers have no locks, everything is bought once all the same', async () => {
  const context = await browser.newContext();
  const url = server.url.replace('127.0.0.1', PLAIN_HOST);
  const [page, other] = [await openPage(context, { url }), await openPage(context, { url })];
  assert.equal(await page.evaluate(() => navigator.locks), undefined);
  await buy(page, { username: 'Ann', userid: 'plain', price: '1' });
  for (const tab of [page, other]) await shows(tab, 1);
  await says(page, 'live', 'on');
  await server.buy({ username: 'Ann', userid: 'plain', price: 2 });
  for (const tab of [page, other]) await shows(tab, 2, '3.00');
  assertNothingReported(page);
});
