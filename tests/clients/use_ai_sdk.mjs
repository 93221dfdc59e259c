// Vercel's AI SDK with both of its providers: chat completions and the Responses API.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { errorOf, KEY, QUESTION, report, URL } from "./harness.mjs";

const settings = { baseURL: URL, apiKey: KEY };
const compatible = createOpenAICompatible({ ...settings, name: "swift", supportsStructuredOutputs: true });
const openai = createOpenAI(settings);
const model = compatible("best-mini");
const schema = z.object({ number: z.string(), total: z.number() });
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `4 degrees in ${city}`,
});

const askWeather = { model, prompt: "How cold is it in Oslo?", tools: { weather }, stopWhen: stepCountIs(2) };

async function streamed(options) {
  const parts = [];
  for await (const part of streamText(options).textStream) {
    parts.push(part);
  }
  return parts.join("");
}

await report({
  plain: async () => (await generateText({ model, prompt: QUESTION })).text,
  stream: () => streamed({ model, prompt: QUESTION }),
  // The SDK runs the tool and sends its result.
  tool: async () => (await generateText(askWeather)).text,
  tool_stream: () => streamed(askWeather),
  structured: async () => (await generateObject({ model, schema, prompt: "Read the invoice." })).object,
  responses: async () => (await generateText({ model: openai("best-mini"), prompt: QUESTION })).text,
  responses_stream: () => streamed({ model: openai("best-mini"), prompt: QUESTION }),
  responses_structured: async () =>
    (await generateObject({ model: openai("best-mini"), schema, prompt: "Read the invoice." })).object,
  unknown_model: () =>
    errorOf(() => generateText({ model: compatible("nobody"), prompt: QUESTION, maxRetries: 0 })),
  wrong_key: () => {
    const wrong = createOpenAICompatible({ baseURL: URL, apiKey: "wrong", name: "swift" });
    return errorOf(() => generateText({ model: wrong("best-mini"), prompt: QUESTION, maxRetries: 0 }));
  },
});
