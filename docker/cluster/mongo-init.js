// Makes the replica set and the server's user; may run again.
const members = ["mongo1", "mongo2", "mongo3"];
try {
  rs.initiate({ _id: "vehr", members: members.map((name, n) => ({ _id: n, host: `${name}:27017` })) });
} catch (error) {
  if (error.codeName !== "AlreadyInitialized") throw error;
}
for (let n = 0; !db.hello().isWritablePrimary; n++) {
  if (n > 60) throw new Error("mongo1 is not the primary");
  sleep(1000);
}
const own = db.getSiblingDB("vehr");
// The record, and beside it the data bank for research.
const roles = ["vehr", "vehr_research"].map((name) => ({ role: "readWrite", db: name }));
const user = { pwd: process.env.VEHR_PASSWORD, roles };
if (own.getUser("vehr")) own.updateUser("vehr", user);
else own.createUser({ user: "vehr", ...user });
