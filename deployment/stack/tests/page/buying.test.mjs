// Buying, and seeing what becomes of it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNothingReported, buy, field, openPage, says, shows } from './browser.mjs';
import { Server } from './server.mjs';
import { begin } from './stage.mjs';

const { server, browser, freshPage } = await begin();

// They wait for most of their time.
describe('buying', { concurrency: 3 }, () => {
  test('a purchase is seen recorded without a reload', async () => {
    const page = await freshPage();
    await buy(page, { username: 'Ann', userid: 'ann', price: '19.90' });
    await shows(page, 1, '19.90');
    await says(page, 'announcement', 'Recorded: 19.90, Ann.');
    await says(page, 'history', 'recorded');
    assert.equal(await field(page, 'Price').inputValue(), '');
    await buy(page, { username: 'Ann', price: '0.1' });
    await shows(page, 2, '20.00');
    assert.equal(await page.locator('#history li').first().locator('.price').textContent(), '0.10');
    assertNothingReported(page);
  });

  test('where Kafka is enough for an answer, what is accepted becomes recorded by itself', async () => {
    const quick = await Server.beside(server);
    const page = await openPage(await browser.newContext(), quick);
    await buy(page, { username: 'Ann', userid: 'quick', price: '3' });
    await shows(page, 1, '3.00');
    await says(page, 'announcement', 'Recorded: 3.00, Ann.');
    await page.locator('#outgoing li').waitFor({ state: 'detached' });
    await says(page, 'kafka', 'reachable');
    await says(page, 'lag', 'none');
    await says(page, 'replicas', '1 of 1');
    assertNothingReported(page);
    await page.context().close();
    await quick.end();
  });

  test('every digit counts', async () => {
    const page = await freshPage();
    await buy(page, { username: 'Ann', userid: 'rich', price: '999999999999999.9999' });
    await shows(page, 1, '999,999,999,999,999.9999');
    assertNothingReported(page);
  });

  test('a script in the name is text', async () => {
    const page = await freshPage();
    const username = '<script>alert(1)</script><img src=x onerror=alert(2)>';
    await buy(page, { username, userid: 'mallory', price: '1' });
    await shows(page, 1);
    assert.equal(await page.locator('#history .who').textContent(), username);
    await page.reload();
    await shows(page, 1);
    assert.equal(await page.locator('main img, main script').count(), 0);
    assertNothingReported(page);
  });

  test('what others buy arrives by itself, is announced, and leaves the focus where it is', async () => {
    const page = await freshPage();
    await buy(page, { username: 'Bob', userid: 'bob', price: '1' });
    await says(page, 'announcement', 'Recorded: 1.00, Bob.');
    await says(page, 'live', 'on');
    await field(page, 'Price').fill('12');
    await field(page, 'Price').focus();
    await server.buy({ username: 'Till 7', userid: 'bob', price: 2.5 });
    await says(page, 'announcement', 'Recorded: 2.50, Till 7.');
    assert.equal(await page.locator('#announcement').getAttribute('role'), 'status');
    assert.equal(await page.evaluate(() => document.activeElement.name), 'price');
    await page.keyboard.type('.5');
    assert.equal(await field(page, 'Price').inputValue(), '12.5');
    await shows(page, 2, '3.50');
    assertNothingReported(page);
  });

  test('what is wrong is said in words at its field', async () => {
    const page = await freshPage();
    await buy(page, { username: 'Ann', userid: 'wrong', price: '19,90' });
    await says(page, 'buy-form', 'Price must be a number greater than 0');
    assert.equal(await field(page, 'Price').getAttribute('aria-invalid'), 'true');
    assert.equal(await page.evaluate(() => document.activeElement.name), 'price');
    await buy(page, { username: 'x'.repeat(257), price: '1' });
    await says(page, 'buy-form', 'Name must have at most 256 characters.');
    assert.equal(await field(page, 'Name').getAttribute('aria-invalid'), 'true');
    assert.equal(await server.count('wrong'), 0);
    assertNothingReported(page);
  });

  test('where nobody says how the system stands, buying goes on', async () => {
    const context = await browser.newContext();
    await context.route('**/status', (route) => route.fulfill({ status: 503, json: { detail: 'too much to do' } }));
    const page = await openPage(context, server);
    await says(page, 'trouble', 'Too much to do. What you buy is kept in this browser and sent by itself.');
    await buy(page, { username: 'Ann', userid: 'unsaid', price: '1' });
    await shows(page, 1, '1.00');
    await context.unrouteAll();
    await says(page, 'kafka', 'reachable');
    await page.locator('#trouble').waitFor({ state: 'hidden' });
    assertNothingReported(page);
  });

  test('where the browser keeps nothing, nothing is bought, and that is said', async () => {
    const page = await freshPage();
    await buy(page, { username: 'Ann', userid: 'full', price: '1' });
    await shows(page, 1);
    await page.evaluate(() => {
      for (let bytes = 2 ** 23; bytes > 0; bytes >>= 1) {
        try {
          localStorage.setItem(`full ${bytes}`, ' '.repeat(bytes));
        } catch {
          // Half of it may have room.
        }
      }
    });
    await buy(page, { username: 'Ann', price: '2' });
    await says(page, 'buy-form', 'This browser keeps nothing for this page.');
    assert.equal(await field(page, 'Price').inputValue(), '2');
    assert.equal(await server.count('full'), 1);
    assertNothingReported(page);
  });

  test('what is accepted is shown so until it is recorded', async () => {
    const page = await freshPage();
    // As without the wait for the database: the answer comes first, and no news until they are let through.
    const nothing = { userid: 'slow', purchases: [], count: 0, total_spent: 0 };
    await page.route('**/getAllUserBuys/**', (route) => route.fulfill({ json: nothing }));
    await page.route('**/users/*/events', (route) => route.abort());
    await page.route('**/buy', async (route) => {
      const { purchase_id: id } = await (await route.fetch()).json();
      await route.fulfill({ status: 202, json: { status: 'accepted', purchase_id: id } });
    });
    await buy(page, { username: 'Ann', userid: 'slow', price: '2' });
    await says(page, 'outgoing', 'accepted');
    await says(page, 'announcement', 'Accepted: 2.00, Ann.');
    await page.reload();
    await shows(page, 0);
    await says(page, 'outgoing', 'accepted');
    await page.unrouteAll();
    await shows(page, 1, '2.00');
    await says(page, 'announcement', 'Recorded: 2.00, Ann.');
    assert.equal(await page.locator('#outgoing li').count(), 0);
    assertNothingReported(page);
  });
});
