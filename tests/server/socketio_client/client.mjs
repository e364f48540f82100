// An existing dashboard without its page: the real socket.io-client, events printed as JSON lines.
// usage: node client.mjs URL SESSION OPTIONS_JSON
import { io } from "socket.io-client";

const [url, sessionId, options] = process.argv.slice(2);
const say = (event, data) => console.log(JSON.stringify([event, data]));
const socket = io(url, { reconnection: false, ...JSON.parse(options ?? "{}") });
socket.io.engine.on("upgrade", (transport) => say("upgrade", transport.name));
socket.on("connect", () => {
  say("connect", socket.io.engine.transport.name);
  socket.emit("subscribe_session", { sessionId }, (answer) => say("ack", answer));
});
socket.on("connect_error", (error) => {
  say("connect_error", error.message);
  process.exit(3);
});
socket.onAny((event, data) => {
  say(event, data);
  if (event === "training_completed") {
    say("transport", socket.io.engine.transport.name);
    socket.close();
  }
});
socket.on("disconnect", (reason) => {
  say("disconnect", reason);
  process.exit(reason === "io client disconnect" ? 0 : 4);
});
