// The page of the API: Swagger UI, as the daemon serves it, with the token of this tab.

import { call, setTokenPrompt, tokenHeaders } from "../api.js";
import { askForToken } from "../dialogs.js";
import { setText } from "../parts/dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

async function show() {
  try {
    const spec = await call("GET", "openapi.json");
    SwaggerUIBundle({
      spec,
      dom_id: "#docs",
      deepLinking: true,
      validatorUrl: null, // it is at another host
      requestInterceptor: (request) => Object.assign(request, { headers: { ...request.headers, ...tokenHeaders() } }),
    });
  } catch (error) {
    const problem = document.getElementById("problem");
    problem.hidden = false;
    setText(problem, error.message);
  }
}

setTokenPrompt(askForToken);
dark.addEventListener("change", followScheme);
followScheme();
show();
