// openai-node and Vercel's AI SDK.
import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";
import OpenAI from "openai";

const settings = { baseURL: `${process.env.DALLE_URL}/v1`, apiKey: "any" };
const client = new OpenAI(settings);
const linked = await client.images.generate({ model: "dall-e-3", prompt: "a red circle" });
assert((await fetch(linked.data[0].url)).ok);
const types = [];
const stream = await client.images.generate({ model: "gpt-image-1", prompt: "a red circle", stream: true, partial_images: 1 });
for await (const event of stream) types.push(event.type);
assert.deepEqual(types, ["image_generation.partial_image", "image_generation.completed"]);

const model = createOpenAI(settings).image("dall-e-3");
const { images, warnings } = await generateImage({ model, prompt: "a red circle", n: 2, size: "1024x1024" });
assert.deepEqual(images.map((image) => image.mediaType), ["image/png", "image/png"]);
assert.deepEqual(warnings, []);
