/** Read server-sent events from a body as it arrives. Yields {event, data}, with data parsed from JSON. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = parse(block);
        if (found) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // has no effect on a body that has ended or was cut off
  }
}

/** Parse one block of lines. Return null for a comment, which only keeps the connection alive. */
function parse(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  if (!data.length) return null;
  // A seed can be above 2^53, where JavaScript's numbers lose digits, so it stays text.
  return { event, data: JSON.parse(data.join("\n").replace(/"seed":\s*(\d+)/, '"seed":"$1"')) };
}
