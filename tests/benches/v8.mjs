// The V8 side of the benches: runs a program's WebAssembly the way its users' browsers do.
// Usage: node v8.mjs FILE.wasm PAGES SHARED EXPORT. Then each line "N" on standard input calls the export N times and
// answers with the nanoseconds that took.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [file, pages, shared, name] = process.argv.slice(2);
const limits = { initial: Number(pages), maximum: Number(pages), shared: shared === 'shared' };
const memory = new WebAssembly.Memory(limits);
const { instance } = await WebAssembly.instantiate(readFileSync(file), { host: { memory } });
instance.exports.initDefaults();
const call = instance.exports[name];
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const times = Number(line);
  const start = process.hrtime.bigint();
  for (let i = 0; i < times; i++) call();
  console.log(String(process.hrtime.bigint() - start));
}
