// Bundles the page into execution_logger/web/static; with --tests the tests, for `node --test`.
import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { argv, env } from "node:process";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const common = { absWorkingDir: here, bundle: true, format: "esm", target: "es2022", logLevel: "warning" };

async function buildTests() {
  const outdir = join(here, "build", "tests");
  await rm(outdir, { recursive: true, force: true });
  const entryPoints = ["test/*.test.ts"];
  await esbuild.build({ ...common, entryPoints, outdir, outExtension: { ".js": ".mjs" }, platform: "node" });
}

async function buildPage() {
  const outdir = join(here, "..", "execution_logger", "web", "static");
  await mkdir(outdir, { recursive: true });
  for (const name of ["index.html", "icon.svg"]) await copyFile(join(here, "src", name), join(outdir, name));
  // The licences of what is bundled stay with it. The last line tells hatch_build.py what it was built of.
  const options = { ...common, outdir, minify: true, charset: "utf8", legalComments: "inline" };
  const footer = { js: `// sources ${env.PAGE_SOURCES ?? "unknown"}` };
  await Promise.all([
    esbuild.build({ ...options, footer, entryPoints: { page: "src/main.ts" } }),
    esbuild.build({ ...options, entryPoints: { page: "src/style/page.css" } }),
  ]);
}

await (argv.includes("--tests") ? buildTests() : buildPage());
