/** Read server-sent events. */

/** Yield {event, data} for each event in a response's body. Leaving the loop cancels the body. */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split(/\r\n|\n|\r(?!$)/); // a CR at the very end may be the first half of a CRLF
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
        else if (line === "") {
          if (data) yield { event, data: JSON.parse(data) };
          event = data = "";
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // rejects if the body was aborted
  }
}
