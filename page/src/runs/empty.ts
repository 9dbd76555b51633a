// What a reader sees before there is any entry: how the first one comes.
import { html, type TemplateResult } from "lit";
import { t } from "../i18n/language";

const EXAMPLE = `from execution_logger import execution_logger

async def main() -> None:
    async with execution_logger.run("my-first-run"):
        await execution_logger.info("my-first-run", "workflow", "Hello")`;

export function emptyRuns(): TemplateResult {
  return html`<div class="box first">
    <h2>${t("empty.title")}</h2>
    <p>${t("empty.host")}</p>
    <pre><code>${EXAMPLE}</code></pre>
    <p>${t("empty.worker")}</p>
    <pre><code>execution-logger worker</code></pre>
    <p>${t("empty.wait")}</p>
  </div>`;
}
