// Runs the checks of one client and prints their results as JSON; see harness.py.

import { pathToFileURL } from "node:url";

export const [URL, KEY, SNIPPET] = process.argv.slice(2);
export const QUESTION = "What is 17 * 24? End with: The answer is N.";
export const MESSAGES = [{ role: "user", content: QUESTION }];

// The class of the error that an action raises, with its status.
export async function errorOf(action) {
  try {
    await action();
  } catch (error) {
    return `${error.name === "Error" ? error.constructor.name : error.name} ${error.status ?? error.statusCode}`;
  }
  return "no error";
}

export async function report(checks) {
  const results = {};
  for (const [name, check] of Object.entries(checks)) {
    results[name] = await check();
  }
  const print = console.log;
  const lines = [];
  console.log = (...values) => lines.push(values.join(" ") + "\n");
  await import(pathToFileURL(SNIPPET));
  print(JSON.stringify({ ...results, snippet: lines.join("") }));
}
