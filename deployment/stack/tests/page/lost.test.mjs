// Purchases whose answer was lost: sent again with their key, and stored once.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNothingReported, buy, openPage, says, shows } from './browser.mjs';
import { eventually, Server } from './server.mjs';
import { begin } from './stage.mjs';

const { server, browser, freshPage } = await begin();

/** Has the server do what is asked of it and the answer lost, until it is ended. */
async function loseAnswers(page) {
  const lose = async (route) => {
    await route.fetch();
    await route.abort();
  };
  await page.route('**/buy', lose);
  return () => page.unroute('**/buy', lose);
}

/** Has the browser hear that the network is there, and so send at once what waits. */
const hurry = (page) => page.evaluate(() => dispatchEvent(new Event('online')));

const kept = (page) => page.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith('outgoing:')));

async function storedOnce(page, userid) {
  await shows(page, 1);
  await page.locator('#outgoing li').waitFor({ state: 'detached' });
  assert.deepEqual(await kept(page), []);
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

  test('answers of what is between, whatever they say', async () => {
    const page = await freshPage();
    const answers = [
      { status: 200, contentType: 'text/html', body: '<html>Sign in to this network</html>' },
      { status: 504, json: { type: 'urn:purchase:outcome-unknown', detail: 'it may be stored' } },
      { status: 404, contentType: 'text/plain', body: 'no backend' },
      { status: 405, body: '' },
      { status: 403, contentType: 'application/problem+json', body: '{"type":"about:blank"}' },
    ];
    let asked = 0;
    await page.route('**/buy', async (route) => {
      const answer = answers[asked];
      if (asked === 1) await route.fetch();
      asked += 1;
      await (answer ? route.fulfill(answer) : route.continue());
    });
    await buy(page, { username: 'Ann', userid: 'between', price: '1' });
    for (const place of answers.keys()) {
      await eventually('it was sent', () => asked > place);
      await says(page, 'outgoing', 'It is sent again by itself, and stored once.');
      assert.equal(await page.getByRole('button', { name: 'Withdraw' }).count(), 0, 'who knows what was sent');
      await hurry(page);
    }
    await storedOnce(page, 'between');
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
    await buy(page, { username: 'Bob', price: '2' });
    const withdraw = page.locator('#outgoing li', { hasText: 'Bob' }).getByRole('button', { name: 'Withdraw' });
    await withdraw.focus();
    await page.keyboard.press('Enter');
    await withdraw.waitFor({ state: 'detached' });
    assert.equal(await page.evaluate(() => document.activeElement.id), 'purchases', 'the focus stays near');
    await shut.kill();
    await shut.startBeside(server);
    await storedOnce(page, 'kafka');
    await page.locator('#trouble').waitFor({ state: 'hidden' });
    assertNothingReported(page);
    await page.context().close();
    await shut.end();
  });
});

describe('what is not sent by itself', { concurrency: 3 }, () => {
  test('a purchase that was refused in another tab is there, with why, until it is dismissed', async () => {
    const context = await browser.newContext();
    const [page, other] = [await openPage(context, server), await openPage(context, server)];
    await context.route('**/buy', (route) => route.abort());
    await buy(page, { username: 'Ann', userid: 'refused', price: '1' });
    await says(other, 'outgoing', 'waiting');
    await page.close();
    await context.route('**/buy', (route) => route.fulfill({ status: 422, json: { type: 'urn:purchase:conflict', detail: 'the key is used' } }));
    await hurry(other);
    await says(other, 'outgoing', 'not recorded');
    await other.reload();
    await says(other, 'outgoing', 'The key is used.');
    await other.getByRole('button', { name: 'Dismiss' }).click();
    await other.locator('#outgoing li').waitFor({ state: 'detached' });
    assert.deepEqual(await kept(other), []);
    assertNothingReported(other);
  });

  test('after a day it is asked whether it is to be sent still', async () => {
    const page = await freshPage();
    await page.evaluate(() => {
      const entry = { username: 'Ann', userid: 'old', price: '1', state: 'waiting', words: '', isUnsent: false, failures: 9 };
      const keep = (key, hours) => {
        const kept = { ...entry, key, at: Date.now() - hours * 60 * 60 * 1000 };
        localStorage.setItem(`outgoing:${key}`, JSON.stringify(kept));
      };
      localStorage.setItem('buyer', 'old');
      keep('yesterday', 25);
      keep('the day before', 50);
    });
    await page.reload();
    await says(page, 'outgoing', 'Send it still?');
    assert.equal(await server.count('old'), 0);
    await page.getByRole('button', { name: 'Forget' }).last().click();
    await page.locator('#outgoing li').nth(1).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Send' }).click();
    await storedOnce(page, 'old');
    assertNothingReported(page);
  });
});
