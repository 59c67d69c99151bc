// Copies the few files that pages load from node_modules to static/vendor (which git ignores).
// Run after `npm ci --ignore-scripts`: node copy_vendor.mjs
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const files = {
  "htmx.org/dist/htmx.min.js": "htmx.min.js",
  "htmx.org/LICENSE": "htmx.LICENSE.txt",
  "openseadragon/build/openseadragon/openseadragon.min.js": "openseadragon.min.js",
  "openseadragon/LICENSE.txt": "openseadragon.LICENSE.txt",
};

const target = join(here, "static", "vendor");
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const [from, to] of Object.entries(files)) {
  const source = join(here, "node_modules", from);
  if (!existsSync(source)) {
    console.error(`${from} is not in node_modules. Run "npm ci --ignore-scripts" in frontend/ first.`);
    process.exit(1);
  }
  copyFileSync(source, join(target, to));
}
console.log(`${Object.keys(files).length} files copied to static/vendor`);
