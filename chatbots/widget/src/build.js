/**
 * Bundle and minify the widget into the static files that Django serves, each with a Brotli copy next to it.
 *
 *   node build.js            write the files that have changed
 *   node build.js --check    fail if the files differ from a fresh build
 */

import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, brotliDecompressSync } from "node:zlib";
import { build } from "esbuild";

const OUTPUT = new URL("../../static/chatbots/", import.meta.url);

const { outputFiles } = await build({
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  entryPoints: ["embed.js", "widget.js", "widget.css"],
  outdir: "out", // required, though `write: false` keeps the files in memory
  write: false,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"], // older ones cannot run what esbuild does not lower
});

const built = outputFiles.map(({ path, contents }) => ({ name: basename(path), contents: Buffer.from(contents) }));
const stale = built.filter(({ name, contents }) => !isCurrent(name, contents));

if (process.argv.includes("--check")) {
  for (const { name } of stale) console.error(`${name} differs from a fresh build. Run "make widget" and commit it.`);
  process.exitCode = stale.length ? 1 : 0;
} else {
  for (const { name, contents } of stale) {
    writeFileSync(new URL(name, OUTPUT), contents);
    writeFileSync(new URL(`${name}.br`, OUTPUT), brotliCompressSync(contents)); // at the best quality, by default
  }
}

/** Compare what the Brotli copy decompresses to: other versions of Node may compress the same content differently. */
function isCurrent(name, contents) {
  try {
    const copy = brotliDecompressSync(readFileSync(new URL(`${name}.br`, OUTPUT)));
    return readFileSync(new URL(name, OUTPUT)).equals(contents) && copy.equals(contents);
  } catch {
    return false; // a file is missing or damaged
  }
}
