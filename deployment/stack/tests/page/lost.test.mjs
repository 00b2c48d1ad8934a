// Purchases whose answer was lost: sent again with their key, and stored once.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertNothingReported, buy, openBrowser, openPage, says, shows } from './browser.mjs';
import { eventually, Server } from './server.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([Server.pipeline(), openBrowser()]);
});

after(async () => {
  await browser.close();
  await server.end();
});

async function freshPage() {
  return openPage(await browser.newContext(), server);
}

/** Has the server do what is asked of it and the answer lost, until it is ended. */
async function loseAnswers(page) {
  const lose = async (route) => {
    await route.fetch();
    await route.abort();
  };
  await page.route('**/buy', lose);
  return () => page.unroute('**/buy', lose);
}

async function storedOnce(page, userid) {
  await shows(page, 1);
  await page.locator('#outgoing li').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith('outgoing:')).length), 0);
  assert.equal(await server.count(userid), 1);
}

// They wait for most of their time.
describe('a purchase is stored once after', { concurrency: 3 }, () => {
  test('a lost answer', async () => {
    const page = await freshPage();
    const mend = await loseAnswers(page);
    await buy(page, { username: 'Ann', userid: 'answer', price: '1' });
    await says(page, 'outgoing', 'The server cannot be reached. It is sent again by itself, and stored once.');
    await mend();
    await storedOnce(page, 'answer');
    assertNothingReported(page);
  });

  test('a reload before the answer', async () => {
    const page = await freshPage();
    let asked = false;
    await page.route('**/buy', async (route) => {
      await route.fetch();
      asked = true;
    });
    await buy(page, { username: 'Ann', userid: 'reload', price: '1' });
    await eventually('it was sent', () => asked);
    await page.unrouteAll();
    await page.reload();
    await storedOnce(page, 'reload');
    assertNothingReported(page);
  });

  test('no network', async () => {
    const context = await browser.newContext();
    const page = await openPage(context, server);
    await buy(page, { username: 'Ann', userid: 'network', price: '1' });
    await shows(page, 1);
    await context.setOffline(true);
    await buy(page, { username: 'Ann', price: '2' });
    await says(page, 'outgoing', 'waiting');
    await context.setOffline(false);
    await shows(page, 2, '3.00');
    assert.equal(await server.count('network'), 2);
    assertNothingReported(page);
  });

  test('a tab that is closed leaves its purchases to the others', async () => {
    const context = await browser.newContext();
    const [page, other] = [await openPage(context, server), await openPage(context, server)];
    await page.route('**/buy', (route) => route.abort());
    await buy(page, { username: 'Ann', userid: 'closed', price: '1' });
    await says(other, 'outgoing', 'waiting');
    await page.close();
    await storedOnce(other, 'closed');
    assertNothingReported(other);
  });

  test('a killed server', async () => {
    const mortal = await Server.pipeline();
    const page = await openPage(await browser.newContext(), mortal);
    const mend = await loseAnswers(page);
    await buy(page, { username: 'Ann', userid: 'killed', price: '1' });
    await says(page, 'outgoing', 'waiting');
    await mortal.kill();
    await mend();
    await buy(page, { username: 'Ann', price: '2' });
    await says(page, 'trouble', 'The server cannot be reached. What you buy is kept in this browser and sent by itself.');
    await mortal.start();
    await shows(page, 2, '3.00');
    await page.locator('#trouble').waitFor({ state: 'hidden' });
    assert.equal(await mortal.count('killed'), 2);
    assertNothingReported(page);
    await page.context().close();
    await mortal.end();
  });

  test('Kafka being away', async () => {
    const shut = await Server.withoutKafka();
    const page = await openPage(await browser.newContext(), shut);
    await says(page, 'trouble', 'Kafka is not reachable: nothing can be bought now.');
    await buy(page, { username: 'Ann', userid: 'kafka', price: '1' });
    await says(page, 'outgoing', 'Kafka is not reachable; nothing was sent: try again.');
    await says(page, 'announcement', 'It is sent again by itself, and stored once.');
    assertNothingReported(page);
    await page.context().close();
    await shut.end();
  });
});
