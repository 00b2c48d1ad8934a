// A server and a browser for the tests of one file.

import { after } from 'node:test';
import { openBrowser, openPage } from './browser.mjs';
import { Server } from './server.mjs';

/** Starts both, the server with these settings; they end after the file's last test. `freshPage` opens the page in a browser that knows nothing. */
export async function begin(settings) {
  const [server, browser] = await Promise.all([Server.pipeline(settings), openBrowser()]);
  after(async () => {
    await browser.close();
    await server.end();
  });
  const freshPage = async () => openPage(await browser.newContext(), server);
  return { server, browser, freshPage };
}
