// What a Node program with OpenAI's package does: list, speak whole, speak as it comes, meet an error.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const input = "One two three four.";
const said = {};

said.models = (await client.models.list()).data.map((model) => model.id);

const whole = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input, response_format: "wav" });
said.type = whole.headers.get("content-type");
said.whole = Buffer.from(await whole.arrayBuffer()).toString("base64");

const streamed = await client.audio.speech.create({ model: "gpt-4o-mini-tts", voice: "alloy", input, response_format: "pcm" });
const pieces = [];
for await (const piece of streamed.body) pieces.push(piece);
said.streamed = Buffer.concat(pieces).length;

try {
  await client.audio.speech.create({ model: "tts-1", voice: "nobody", input });
} catch (error) {
  said.error = { name: error.constructor.name, status: error.status, param: error.param, code: error.code };
}
console.log(JSON.stringify(said));
