// The V8 side of the benches: runs a program's WebAssembly the way its users' browsers do.
// Usage: node v8.mjs FILE.wasm PAGES EXPORT [once]. With `once` it calls the export once, says so and ends. Else each line on
// standard input is answered: "N" calls the export N times and gives the nanoseconds of processor time that took; "load" does
// the same for everything from the binary to the first call; "pace" goes on with 375 calls a second by itself, as a sound
// device would ask.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [file, pages, name, once] = process.argv.slice(2);
const bytes = readFileSync(file);
const load = () => {
  const memory = new WebAssembly.Memory({ initial: Number(pages), maximum: Number(pages) });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { host: { memory } });
  exports.initDefaults();
  return exports[name];
};
const call = load();
if (once) {
  call();
  console.log('first');
  process.exit(0);
}
const pace = () => {
  const start = process.hrtime.bigint();
  let done = 0;
  setInterval(() => {
    const due = Number(process.hrtime.bigint() - start) * 375e-9;
    for (; done < due; done++) call();
  }, 2);
};
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'pace') {
    pace();
    console.log('pacing');
    continue;
  }
  const start = process.cpuUsage();
  if (line === 'load') load()();
  else for (let i = Number(line); i > 0; i--) call();
  const { user, system } = process.cpuUsage(start);
  console.log(String((user + system) * 1000));
}
