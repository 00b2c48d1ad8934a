// Many tabs of one browser.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { assertNothingReported, buy, field, openPage, PLAIN_HOST, says, shows } from './browser.mjs';
import { eventually } from './server.mjs';
import { begin } from './stage.mjs';

const TABS = 10;

const { server, browser } = await begin();

const hasOneStream = () => eventually('one stream', async () => (await server.metric('event_streams')) === 1);

test('ten tabs share one stream, and buying goes on in each', async () => {
  const context = await browser.newContext();
  const first = await openPage(context, server);
  await buy(first, { username: 'Ann', userid: 'tabs', price: '1' });
  await shows(first, 1);
  const others = await Promise.all(Array.from({ length: TABS - 1 }, () => openPage(context, server)));
  await Promise.all(others.map((page) => shows(page, 1)));
  await hasOneStream();
  await Promise.all([first, ...others].map((page) => buy(page, { username: 'Ann', price: '2' })));
  await Promise.all([first, ...others].map((page) => shows(page, 11, '21.00')));
  await first.close();
  await server.buy({ username: 'Ann', userid: 'tabs', price: 3 });
  await Promise.all(others.map((page) => shows(page, 12, '24.00')));
  await hasOneStream();
  for (const page of others) assertNothingReported(page);
  assert.equal(await server.metric('event_stream_resets_total'), 0);
});

test('where the tab that listens is asleep, one that is looked at takes its place', async () => {
  const context = await browser.newContext();
  const asleep = await openPage(context, server, '/page/icon.svg');
  await asleep.evaluate(
    () =>
      new Promise((resolve) => {
        const hold = () => {
          resolve();
          return new Promise(() => {});
        };
        navigator.locks.request('leader', hold).catch(() => (globalThis.isOver = true));
      }),
  );
  const page = await openPage(context, server, '/', (opened) => opened.clock.install());
  const other = await openPage(context, server);
  await buy(page, { username: 'Ann', userid: 'asleep', price: '1' });
  await says(page, 'history', 'recorded');
  await page.clock.runFor(20_000);
  await asleep.waitForFunction(() => globalThis.isOver);
  for (const tab of [page, other]) await says(tab, 'live', 'on');
  await server.buy({ username: 'Ann', userid: 'asleep', price: 2 });
  for (const tab of [page, other]) await shows(tab, 2, '3.00');
  for (const tab of [page, other]) assertNothingReported(tab);
  await context.close();
});

test('a stream that breaks comes back when the server has said', async (running) => {
  let broken = 0;
  let first;
  const breaking = createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    if (first) {
      broken += 1;
      response.write(':\n\n', () => response.destroy());
      return;
    }
    first = response;
    const purchase = { purchase_id: 'x', userid: 'breaking', username: 'Bob', price: 2, timestamp: '2026-01-01T00:00:00.000Z' };
    response.write(`retry: 20\nevent: recorded\ndata: ${JSON.stringify(purchase)}\n\n`);
  });
  running.after(() => breaking.close());
  await new Promise((resolve) => breaking.listen(0, '127.0.0.1', resolve));
  const context = await browser.newContext();
  await context.route('**/users/*/events', (route) => route.continue({ url: `http://127.0.0.1:${breaking.address().port}/` }));
  const page = await openPage(context, server);
  await field(page, 'User id').fill('breaking');
  await field(page, 'Price').focus();
  await says(page, 'announcement', 'Recorded: 2.00, Bob.');
  first.destroy();
  // Backing off would take minutes.
  await eventually('it has come back again and again', () => broken > 12);
  await context.close();
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
