// The services in processes of their own, each with a folder of its own, as the tests want them.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const DEADLINE_MS = 20_000;
const ANY_PORT = '127.0.0.1:0';
const running = new Set();

process.on('exit', () => running.forEach((server) => server.kill()));

/** Waits until something holds; fails when it does not in time. */
export async function eventually(what, condition) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await sleep(25);
  }
}

/** One program that serves the page. */
export class Server {
  #program;
  #settings;
  #process;
  #folder = mkdtempSync(join(tmpdir(), 'purchase-page-'));
  #said = '';

  constructor(program, settings) {
    this.#program = join(process.env.PROGRAMS, program);
    this.#settings = settings;
  }

  /** The whole pipeline. */
  static async pipeline(settings = {}) {
    const addresses = { WEB_LISTEN_ADDRESS: ANY_PORT, MANAGEMENT_LISTEN_ADDRESS: ANY_PORT };
    const server = new Server('embedded', { ...addresses, ...settings });
    await server.start();
    return server;
  }

  /** web-server alone, whose Kafka is not there. */
  static async withoutKafka() {
    const nowhere = { KAFKA_BOOTSTRAP_SERVERS: '127.0.0.1:1', CUSTOMER_MGMT_API_URL: 'http://127.0.0.1:1' };
    const server = new Server('web-server', { LISTEN_ADDRESS: ANY_PORT, LOG_FORMAT: 'json', ...nowhere });
    await server.start();
    return server;
  }

  /** web-server beside a pipeline, to whose Kafka and management-api it speaks: it waits for no database. */
  static async beside(pipeline) {
    const server = new Server('web-server', { LISTEN_ADDRESS: ANY_PORT, LOG_FORMAT: 'json' });
    await server.startBeside(pipeline);
    return server;
  }

  /** Starts web-server beside a pipeline, at the place where it was before, if it was. */
  async startBeside({ kafka, management }) {
    Object.assign(this.#settings, { KAFKA_BOOTSTRAP_SERVERS: kafka, CUSTOMER_MGMT_API_URL: management });
    await this.start();
    await eventually('it is ready', () => fetch(`${this.url}/readyz`).then(({ ok }) => ok));
  }

  /** Starts it, at the place where it was before, if it was. */
  async start() {
    const env = { PATH: process.env.PATH, DATA_DIR: join(this.#folder, 'data'), ...this.#settings };
    this.#said = '';
    this.#process = spawn(this.#program, [], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this);
    for (const output of [this.#process.stdout, this.#process.stderr]) output.on('data', (text) => (this.#said += text));
    const address = await eventually(`an address of ${this.#program}`, () => {
      if (this.#process.exitCode !== null) throw new Error(this.#said);
      return this.#said.match(/(?:buy and read\s+http:\/\/|"address":")(127\.0\.0\.1:\d+)/)?.[1];
    });
    this.url = `http://${address}`;
    for (const name of ['WEB_LISTEN_ADDRESS', 'LISTEN_ADDRESS']) if (this.#settings[name]) this.#settings[name] = address;
    await eventually('it answers', () => fetch(`${this.url}/livez`).then(({ ok }) => ok, () => false));
    if (!this.#program.endsWith('embedded')) return;
    await eventually('it takes purchases', () => this.#isReady());
    [, this.management, this.kafka] = this.#said.match(/management-api\s+(\S+)\s+kafka protocol\s+(\S+)/);
  }

  async #isReady() {
    const body = JSON.stringify({ username: 'start', userid: 'start', price: 1 });
    const headers = { 'Content-Type': 'application/json' };
    const { status } = await fetch(`${this.url}/buy`, { method: 'POST', headers, body });
    return status === 201 || status === 401;
  }

  /** Kills it, as a machine would that loses power. */
  kill() {
    running.delete(this);
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    return ended;
  }

  /** Ends it and what it has stored. */
  async end() {
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }

  /** Buys as another program would. */
  async buy(purchase) {
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch(`${this.url}/buy`, { method: 'POST', headers, body: JSON.stringify(purchase) });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  }

  /** How many purchases of a user are stored. */
  async count(userid) {
    const answer = await fetch(`${this.url}/getAllUserBuys/${userid}`, { headers: { 'Cache-Control': 'no-cache' } });
    return (await answer.json()).count;
  }

  /** The value of a metric. */
  async metric(name) {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(text.match(new RegExp(`^${name} (\\S+)$`, 'm'))[1]);
  }
}
