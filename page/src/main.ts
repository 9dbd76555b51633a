import { html, render } from "lit";

render(html`<p>page</p>`, document.body);
