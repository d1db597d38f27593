// Run once by the image of MongoDB, when its volume is empty: a user for each service, who owns
// one database. The database itself begins to exist with the first thing in it.
for (const name of ['parley_auth', 'parley_mailer', 'parley_socket']) {
  db.getSiblingDB(name).createUser({
    user: name,
    pwd: process.env.PARLEY_DATABASE_PASSWORD,
    roles: [{ role: 'dbOwner', db: name }],
  });
}
