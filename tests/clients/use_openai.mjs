// OpenAI's own client for Node.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { errorOf, KEY, MESSAGES, report, URL } from "./harness.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const model = "best-mini";
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const Invoice = z.object({ number: z.string(), total: z.number() });

await report({
  async plain() {
    const completion = await client.chat.completions.create({ model, messages: MESSAGES });
    return [completion.choices[0].message.content, completion.swift.answer];
  },
  async stream() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model, messages: MESSAGES, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    return text;
  },
  async tool() {
    const completion = await client.chat.completions.create({ model, messages: MESSAGES, tools });
    const { name, arguments: argumentsText } = completion.choices[0].message.tool_calls[0].function;
    return [name, argumentsText];
  },
  async tool_stream() {
    const stream = client.chat.completions.stream({ model, messages: MESSAGES, tools });
    const { name, arguments: argumentsText } = (await stream.finalMessage()).tool_calls[0].function;
    return [name, argumentsText];
  },
  async choices() {
    const completion = await client.chat.completions.create({ model, messages: MESSAGES, n: 2 });
    return completion.choices.map((choice) => choice.message.content);
  },
  async structured() {
    const response_format = zodResponseFormat(Invoice, "invoice");
    const completion = await client.chat.completions.parse({ model, messages: MESSAGES, response_format });
    return completion.choices[0].message.parsed;
  },
  async responses() {
    return (await client.responses.create({ model, input: "What is 17 * 24?" })).output_text;
  },
  unknown_model: () => errorOf(() => client.chat.completions.create({ model: "nobody", messages: MESSAGES })),
  wrong_key: () => errorOf(() => new OpenAI({ baseURL: URL, apiKey: "wrong", maxRetries: 0 }).models.list()),
});
