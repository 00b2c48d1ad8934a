// Signing in, where the server asks who buys.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { assertNothingReported, buy, openPage, says, shows } from './browser.mjs';
import { begin } from './stage.mjs';

const PASSWORD = 'correct horse';

const { server, browser, freshPage } = await begin({ AUTH: 'jwt', RATE_LIMIT_LOGIN_PER_MINUTE: '0' });

async function makeAccount(page, name) {
  await page.getByText('Make an account').click();
  const form = page.locator('#account-form');
  await form.getByLabel('Name').fill(name);
  await form.getByLabel('E-mail address').fill(`${name}@example.com`);
  await form.getByLabel('Password').fill(PASSWORD);
  await form.getByRole('button').click();
  await says(page, 'account', `Signed in as ${name}`);
}

async function signIn(page, name, password) {
  const form = page.locator('#sign-in-form');
  await form.getByLabel('E-mail address').fill(`${name}@example.com`);
  await form.getByLabel('Password').fill(password);
  await form.getByRole('button').click();
}

test('who has signed in stays so through a reload, in every tab, until signing out', async () => {
  const context = await browser.newContext();
  const page = await openPage(context, server);
  assert.equal(await page.locator('#buy').isHidden(), true);
  await makeAccount(page, 'ann');
  await buy(page, { username: 'Ann', price: '19.90' });
  await shows(page, 1, '19.90');
  await page.reload();
  await shows(page, 1, '19.90');
  await says(page, 'live', 'on');
  const other = await openPage(context, server);
  await shows(other, 1, '19.90');
  await other.getByRole('button', { name: 'Sign out' }).click();
  for (const tab of [page, other]) {
    await tab.locator('#sign-in').waitFor();
    assert.equal(await tab.locator('#purchases').isHidden(), true);
    await says(tab, 'live', 'off');
  }
  assert.deepEqual(await context.cookies(), []);
  await page.reload();
  await page.locator('#sign-in').waitFor();
  await signIn(page, 'ann', 'wrong horse');
  await says(page, 'sign-in-form', 'Not the credentials of an account here.');
  await signIn(page, 'ann', PASSWORD);
  await shows(page, 1, '19.90');
  await shows(other, 1, '19.90');
  for (const tab of [page, other]) assertNothingReported(tab);
});

test('no script can read the refresh token, and the access token is kept nowhere', async () => {
  const context = await browser.newContext();
  const page = await openPage(context, server);
  await makeAccount(page, 'bob');
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.name], [true, 'Strict', 'refresh_token']);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.doesNotMatch(kept, /eyJ|prt_/);
  assertNothingReported(page);
});

test('another site cannot refresh, even one of the same machine', async () => {
  const context = await browser.newContext();
  const page = await openPage(context, server);
  await makeAccount(page, 'carol');
  const [before] = await context.cookies();
  const foreign = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<p>elsewhere</p>'));
  await new Promise((resolve) => foreign.listen(0, '127.0.0.1', resolve));
  const elsewhere = await context.newPage();
  const refused = [];
  elsewhere.on('response', (answer) => answer.url().startsWith(server.url) && refused.push(answer.status()));
  await elsewhere.goto(`http://127.0.0.1:${foreign.address().port}/`);
  await elsewhere.evaluate((url) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include' }), `${server.url}/refresh`);
  assert.deepEqual(refused, [403]);
  const [after] = await context.cookies();
  assert.equal(after.value, before.value, 'nothing was spent');
  foreign.closeAllConnections();
  foreign.close();
  await page.reload();
  await says(page, 'account', 'Signed in as carol');
  await shows(page, 0);
});

test('what was bought before the session ended is sent after signing in again', async () => {
  const context = await browser.newContext();
  const page = await openPage(context, server);
  await makeAccount(page, 'dora');
  await page.route('**/buy', (route) => route.abort());
  await buy(page, { username: 'Dora', price: '5' });
  await says(page, 'outgoing', 'waiting');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.locator('#sign-in').waitFor();
  await page.unrouteAll();
  await signIn(page, 'dora', PASSWORD);
  await shows(page, 1, '5.00');
});

test('all of it by keyboard alone', async () => {
  const page = await freshPage();
  await page.locator('#sign-in').waitFor();
  const press = (key) => page.keyboard.press(key);
  const isOn = (name) =>
    page.evaluate((wanted) => {
      const { name: named, textContent } = document.activeElement;
      return named === wanted || textContent.trim() === wanted;
    }, name);
  const goTo = async (name) => {
    for (let presses = 0; !(await isOn(name)); presses += 1) {
      assert.ok(presses < 20, `${name} cannot be reached`);
      await press('Tab');
    }
  };
  const type = async (name, text) => {
    await goTo(name);
    await press('Control+A');
    await page.keyboard.type(text);
  };
  await goTo('Make an account');
  await press('Enter');
  await press('Tab');
  await type('username', 'erin');
  await press('Tab');
  await type('email', 'erin@example.com');
  await type('password', PASSWORD);
  await press('Enter');
  await says(page, 'account', 'Signed in as erin');
  await type('price', '7');
  await press('Enter');
  await shows(page, 1, '7.00');
  await type('price', '8');
  await goTo('Buy');
  await press('Space');
  await shows(page, 2, '15.00');
  await goTo('Sign out');
  await press('Enter');
  await page.locator('#sign-in').waitFor();
  await type('email', 'erin@example.com');
  await type('password', PASSWORD);
  await press('Enter');
  await shows(page, 2, '15.00');
  assertNothingReported(page);
});
