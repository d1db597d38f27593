package config

import (
	"slices"
	"strings"
	"time"
)

// Command is what a program is asked to do.
type Command struct {
	// Name is the words of the command, for example "mail list".
	Name string
	// Mail, Webhook, Events, User, Bench, Million, Crash, Check, Overload and Power are set for commands of that name.
	Mail     Mail
	Webhook  Webhook
	Events   Events
	User     User
	Bench    Bench
	Million  Million
	Crash    Crash
	Check    Check
	Overload Overload
	Power    Power
	// Keys is set for the commands about keys.
	Keys Keys
	// Audit is set for the command audit.
	Audit Audit
	// Admin asks the command openapi for the document of the admin address.
	Admin bool
}

// Mail is what the mail commands are told. Not every command uses every field.
type Mail struct {
	URL, State, To, Kind, Error, ID string
	DryRun, Data, JSON, All, Force  bool
	Preview                         Preview
}

type mailServer struct {
	URL  string `name:"url" help:"Admin address of the server. Default: that of this program (admin-listen)."`
	JSON bool   `name:"json" help:"Print one JSON document, for programs."`
}

type mailCommands struct {
	List struct {
		mailServer
		State string `name:"state" default:"dead" enum:"ready,running,sent,dead,any" help:"State of the jobs."`
		To    string `name:"to" help:"Recipient of the jobs."`
	} `cmd:"" help:"List mail jobs, dead letters unless told otherwise."`
	Show struct {
		mailServer
		ID   string `arg:"" name:"id" help:"Job."`
		Data bool   `name:"with-data" help:"Show the data of the job, which holds codes."`
	} `cmd:"" help:"Show one."`
	Replay struct {
		mailServer
		ID     string `arg:"" optional:"" name:"id" help:"Dead letter. Without it: all that fit."`
		To     string `name:"to" help:"Recipient of the dead letters, where no id is given."`
		Kind   string `name:"kind" help:"Their kind, for example verification, where no id is given."`
		Error  string `name:"error" help:"A part of their last error, where no id is given."`
		DryRun bool   `name:"dry-run" help:"Only say which would be replayed."`
		Force  bool   `name:"force" help:"Replay also what was replayed 5 times."`
	} `cmd:"" help:"Put a dead letter, or all that fit, back on the queue."`
	Discard struct {
		mailServer
		ID     string `arg:"" optional:"" name:"id" help:"Dead letter. Without it: all that fit."`
		To     string `name:"to" help:"Recipient of the dead letters, where no id is given."`
		Kind   string `name:"kind" help:"Their kind, for example verification, where no id is given."`
		Error  string `name:"error" help:"A part of their last error, where no id is given."`
		All    bool   `name:"all" help:"All dead letters, where nothing else says which."`
		DryRun bool   `name:"dry-run" help:"Only say which would be removed."`
	} `cmd:"" help:"Remove a dead letter, or all that fit, for good."`
	Stats   struct{ mailServer } `cmd:"" help:"Count jobs by state."`
	Preview struct {
		Template string `name:"template" help:"Mail to show: verification, link and so on. Default: each."`
		Language string `name:"language" help:"Language, as a tag of BCP 47: de, pt-BR. Default: mail-language."`
		Format   string `name:"format" default:"text" enum:"text,html,list" help:"text, html, or the list of mails and languages."`
		Out      string `name:"out" placeholder:"DIR" help:"Write each mail into this folder, as NAME.LANGUAGE.html and .txt, in each language unless one is given."`
	} `cmd:"" help:"Show what mails look like, with made-up data, by mail-templates and the other settings. Asks no server."`
	DKIM struct{} `cmd:"" name:"dkim" help:"Print the DNS record of the key that signs mails, mail-dkim-key. Asks no server."`
}

// Preview is what mail preview is told.
type Preview struct{ Template, Language, Format, Out string }

// command returns what the mail command of this name was told.
func (m *mailCommands) command(name string) Mail {
	switch name {
	case "list":
		return Mail{URL: m.List.URL, JSON: m.List.JSON, State: m.List.State, To: m.List.To}
	case "show":
		return Mail{URL: m.Show.URL, JSON: m.Show.JSON, ID: m.Show.ID, Data: m.Show.Data}
	case "replay":
		return Mail{URL: m.Replay.URL, JSON: m.Replay.JSON, ID: m.Replay.ID, To: m.Replay.To, Kind: m.Replay.Kind, Error: m.Replay.Error, DryRun: m.Replay.DryRun, Force: m.Replay.Force}
	case "discard":
		return Mail{URL: m.Discard.URL, JSON: m.Discard.JSON, ID: m.Discard.ID, To: m.Discard.To, Kind: m.Discard.Kind, Error: m.Discard.Error, All: m.Discard.All, DryRun: m.Discard.DryRun}
	case "preview":
		return Mail{Preview: Preview(m.Preview)}
	case "dkim":
		return Mail{}
	}
	return Mail{URL: m.Stats.URL, JSON: m.Stats.JSON}
}

// Webhook is what the webhook commands are told. Not every command uses every field.
type Webhook struct {
	URL, State, About, Type, Error, ID string
	DryRun, Body, JSON, All, Force     bool
}

type webhookCommands struct {
	List struct {
		mailServer
		State string `name:"state" default:"dead" enum:"ready,running,sent,dead,any" help:"State of the deliveries."`
		About string `name:"about" help:"ID of the user or message that they are about."`
	} `cmd:"" help:"List deliveries, dead letters unless told otherwise."`
	Show struct {
		mailServer
		ID   string `arg:"" name:"id" help:"Delivery."`
		Body bool   `name:"with-body" help:"Show what is delivered."`
	} `cmd:"" help:"Show one."`
	Replay struct {
		mailServer
		ID     string `arg:"" optional:"" name:"id" help:"Dead letter. Without it: all that fit."`
		About  string `name:"about" help:"ID of the user or message that the dead letters are about, where no id is given."`
		Type   string `name:"type" help:"Their type, for example user.created, where no id is given."`
		Error  string `name:"error" help:"A part of their last error, where no id is given."`
		DryRun bool   `name:"dry-run" help:"Only say which would be replayed."`
		Force  bool   `name:"force" help:"Replay also what was replayed 5 times."`
	} `cmd:"" help:"Put a dead letter, or all that fit, back on the queue."`
	Discard struct {
		mailServer
		ID     string `arg:"" optional:"" name:"id" help:"Dead letter. Without it: all that fit."`
		About  string `name:"about" help:"ID of the user or message that the dead letters are about, where no id is given."`
		Type   string `name:"type" help:"Their type, for example user.created, where no id is given."`
		Error  string `name:"error" help:"A part of their last error, where no id is given."`
		All    bool   `name:"all" help:"All dead letters, where nothing else says which."`
		DryRun bool   `name:"dry-run" help:"Only say which would be removed."`
	} `cmd:"" help:"Remove a dead letter, or all that fit, for good."`
	Stats struct{ mailServer } `cmd:"" help:"Count deliveries by state."`
}

// command returns what the webhook command of this name was told.
func (w *webhookCommands) command(name string) Webhook {
	switch name {
	case "list":
		return Webhook{URL: w.List.URL, JSON: w.List.JSON, State: w.List.State, About: w.List.About}
	case "show":
		return Webhook{URL: w.Show.URL, JSON: w.Show.JSON, ID: w.Show.ID, Body: w.Show.Body}
	case "replay":
		return Webhook{URL: w.Replay.URL, JSON: w.Replay.JSON, ID: w.Replay.ID, About: w.Replay.About, Type: w.Replay.Type, Error: w.Replay.Error, DryRun: w.Replay.DryRun, Force: w.Replay.Force}
	case "discard":
		return Webhook{URL: w.Discard.URL, JSON: w.Discard.JSON, ID: w.Discard.ID, About: w.Discard.About, Type: w.Discard.Type, Error: w.Discard.Error, All: w.Discard.All, DryRun: w.Discard.DryRun}
	}
	return Webhook{URL: w.Stats.URL, JSON: w.Stats.JSON}
}

// Events is what the events commands are told. Not every command uses every field.
type Events struct {
	URL, ID, Topic, Type, Key string
	DryRun, Data, JSON        bool
}

type eventsFilter struct {
	Topic string `name:"topic" help:"Topic of the events."`
	Type  string `name:"type" help:"Type of the events, for example user.created."`
	Key   string `name:"key" help:"Key of the events."`
}

type eventsCommands struct {
	List struct {
		mailServer
		eventsFilter
	} `cmd:"" help:"List events that can never be published, with the reasons."`
	Show struct {
		mailServer
		ID   string `arg:"" name:"id" help:"Event."`
		Data bool   `name:"with-data" help:"Show the data of the event, which may hold codes."`
	} `cmd:"" help:"Show one."`
	Replay struct {
		mailServer
		eventsFilter
		ID     string `arg:"" optional:"" name:"id" help:"Event. Without it: all that fit."`
		DryRun bool   `name:"dry-run" help:"Only say which would be replayed."`
	} `cmd:"" help:"Publish an event, or all that fit, after all."`
	Discard struct {
		mailServer
		ID string `arg:"" name:"id" help:"Event."`
	} `cmd:"" help:"Remove an event for good."`
}

// command returns what the events command of this name was told.
func (e *eventsCommands) command(name string) Events {
	switch name {
	case "list":
		return Events{URL: e.List.URL, JSON: e.List.JSON, Topic: e.List.Topic, Type: e.List.Type, Key: e.List.Key}
	case "show":
		return Events{URL: e.Show.URL, JSON: e.Show.JSON, ID: e.Show.ID, Data: e.Show.Data}
	case "replay":
		r := e.Replay
		return Events{URL: r.URL, JSON: r.JSON, ID: r.ID, Topic: r.Topic, Type: r.Type, Key: r.Key, DryRun: r.DryRun}
	}
	return Events{URL: e.Discard.URL, JSON: e.Discard.JSON, ID: e.Discard.ID}
}

// Bench is what the bench commands are told.
type Bench struct {
	Connections int           `name:"connections" default:"5000" help:"Connections to open."`
	Rooms       int           `name:"rooms" default:"0" help:"Rooms that they spread over. Default: 1, or one for each sender (bench send)."`
	Senders     int           `name:"senders" default:"50" help:"Connections that send (bench send)."`
	InFlight    int           `name:"in-flight" default:"8" help:"Messages of a sender that wait for their ack (bench send), or of all that not everybody has yet (bench fanout)."`
	Messages    int           `name:"messages" default:"200" help:"Messages to send in all (bench fanout)."`
	Duration    time.Duration `name:"duration" default:"10s" help:"How long to measure (bench idle, bench send)."`
	Size        int           `name:"size" default:"128" help:"Bytes of a message."`
	Rate        int           `name:"rate" default:"0" help:"Messages a second of all senders together. 0: as many as can be."`
	Wire        string        `name:"wire" enum:"native,socketio,centrifuge" default:"native" help:"What the clients speak: native (parley.v1 on /socket), socketio (over WebSocket), centrifuge (its JSON protocol, with --url or --beside-wire)."`
	URL         string        `name:"url" placeholder:"ws://HOST:PORT/PATH" help:"Measure a server that runs already."`
	Tokens      string        `name:"tokens" placeholder:"FILE" help:"Access tokens for --url, one a line, used in turn."`
	PID         int           `name:"pid" default:"0" help:"Process of the server at --url, on this machine: its memory and processor time are measured, too."`
	JSON        bool          `name:"json" help:"Print what was measured as one line of JSON."`
	Beside      string        `name:"beside" placeholder:"COMMAND" help:"Measure a server that this command starts, too, in turn."`
	BesideWire  string        `name:"beside-wire" enum:",native,socketio,centrifuge" default:"" help:"What that server speaks. Default: as --wire."`
	Rounds      int           `name:"rounds" default:"3" help:"How often both are measured, for --beside."`
	Profile     string        `name:"profile" help:"File to write a processor profile of the server to."`
	Heap        string        `name:"heap" help:"File to write a heap profile of the server to, with everybody connected."`
}

// Million is what bench million is told.
type Million struct {
	Members  int           `name:"members" default:"100000" help:"Members of the one room, in all."`
	PerNode  int           `name:"per-node" default:"18000" help:"Members at each node: some hundred less than the files that a process may open."`
	Steps    []int         `name:"steps" default:"100000,250000,500000" help:"Members at which is measured, and at the end."`
	Messages int           `name:"messages" default:"3" help:"Messages to the room of all, one after the other, at each step."`
	Duration time.Duration `name:"duration" default:"30s" help:"How long the processor time of idle members is measured at each step."`
	JSON     bool          `name:"json" help:"Print what was measured as one line of JSON."`
}

// Overload is what campaign overload is told.
type Overload struct {
	Connections int           `name:"connections" default:"10000" help:"Connections of slow-readers, and of reconnects."`
	Stalled     int           `name:"stalled" default:"1000" help:"Those of them that never read (slow-readers)."`
	Rooms       int           `name:"rooms" default:"100" help:"Rooms that connections spread over."`
	Published   int           `name:"published" default:"1024" help:"MiB of texts that are published (slow-readers). Each stalled reader has to miss several MiB before its socket is full."`
	Storms      int           `name:"storms" default:"3" help:"How often everybody is cut off (reconnects)."`
	Hostile     int           `name:"hostile" default:"3000" help:"Connections that send what no client sends (hostile)."`
	HalfOpen    int           `name:"half-open" default:"9000" help:"Connections that are opened and left (half-open)."`
	Duration    time.Duration `name:"duration" default:"5s" help:"How long others write and read meanwhile, at least; also how long processor time is measured (descriptors)."`
	Only        []string      `name:"only" help:"Parts to run: descriptors, half-open, hostile, reconnects, slow-readers. Default: all."`
	JSON        bool          `name:"json" help:"Print what was seen as one line of JSON."`
}

// Power is what campaign power is told.
type Power struct {
	// Store is the setting of that name, which names a kind of store here.
	Store     string        `kong:"-"`
	Cuts      int           `name:"cuts" default:"200" help:"How often the power is cut."`
	Setting   string        `name:"setting" placeholder:"NAME=VALUE" help:"How the store syncs: synchronous_commit=off (postgres), innodb_flush_log_at_trx_commit=2 or =0 (mariadb), appendfsync=everysec, appendfsync=no or 'appendfsync=always aof-load-truncated=yes' (redis), default (kafka). Default: the one that keeps what is acknowledged."`
	Survival  string        `name:"survival" default:"mixed" help:"What survives though it was not synced: nothing, some (pages and names), torn (parts of pages, too), or mixed, one of them at each cut."`
	SyncTime  time.Duration `name:"sync-time" default:"500us" help:"How long a sync takes; negative for no time."`
	Clients   int           `name:"clients" default:"12" help:"Clients at work."`
	Seed      uint64        `name:"seed" default:"0" help:"Seed of the moments and of what survives. 0: a random one."`
	Journal   string        `name:"journal" placeholder:"FILE" help:"File to keep the journal of the clients in (sqlite, postgres, mariadb)."`
	KafkaJars string        `name:"kafka-jars" placeholder:"FOLDER" help:"Where the jars of a broker are, for kafka."`
	JSON      bool          `name:"json" help:"Print what was found as one line of JSON."`
}

// Crash is what campaign crash is told.
type Crash struct {
	Rounds    int               `name:"rounds" default:"20" help:"How many faults, one after the other."`
	For       time.Duration     `name:"for" default:"0s" help:"Begin no round after this time. 0: no limit."`
	Seed      uint64            `name:"seed" default:"0" help:"Seed of moments, victims and faults. 0: a random one."`
	Clients   int               `name:"clients" default:"12" help:"Clients, each with an account of its own."`
	Rooms     int               `name:"rooms" default:"3" help:"Rooms. Every client is in each of them."`
	InFlight  int               `name:"in-flight" default:"4" help:"Messages of a client that wait for their ack."`
	Rate      int               `name:"rate" default:"0" help:"Messages a second of a client at most. 0: no limit; with --url 20, which servers take by default."`
	SignUps   int               `name:"sign-ups" default:"1" help:"How many sign up new users at a time, each one after the other. 0: none."`
	Faults    []string          `name:"faults" default:"kill,freeze" help:"What is done: kill (SIGKILL), freeze (SIGSTOP, and SIGCONT after a while)."`
	Victims   []string          `name:"victims" placeholder:"NAME" help:"To whom: server, node, store, cache, broker, or what --kill and --freeze name. Default: all."`
	Frozen    time.Duration     `name:"frozen" default:"3s" help:"How long a victim is frozen at most. The least is a tenth of it."`
	Settle    time.Duration     `name:"settle" default:"2m" help:"How long to wait at most: until servers are ready after a fault, and in the end until everybody has what they missed."`
	Journal   string            `name:"journal" placeholder:"FILE" help:"New file for the journal, which is kept. Default: a temporary one, kept if something is wrong."`
	JSON      bool              `name:"json" help:"Print what was found as one line of JSON."`
	Start     []string          `name:"start" placeholder:"SERVER" help:"Servers to start, of those that are installed: postgres, mysql (MariaDB) or mongo (mongo-java-server) as the store; redis; kafka. Default: none, with SQLite. Servers of --store, --redis and --bus are used and suffer nothing."`
	Nodes     int               `name:"nodes" default:"0" help:"Nodes of this program to start. 0: two where store and Redis are shared, else one."`
	KafkaJars string            `name:"kafka-jars" placeholder:"DIR" help:"Folder that .ci/kafka-jars has filled, for --start kafka."`
	MongoJars string            `name:"mongo-jars" placeholder:"DIR" help:"Folder that .ci/mongo-jars has filled, for --start mongo."`
	URL       []string          `name:"url" placeholder:"http://HOST:PORT" help:"Nodes that run already, instead of own ones. Without --tokens they need a development mailbox that this machine may read."`
	Tokens    string            `name:"tokens" placeholder:"FILE" help:"Access tokens for --url, one a line, used in turn: nobody signs up."`
	Kill      map[string]string `name:"kill" mapsep:"none" placeholder:"NAME=COMMAND" help:"Shell command that kills a victim at --url. It needs --restart. Give it once for each victim."`
	Restart   map[string]string `name:"restart" mapsep:"none" placeholder:"NAME=COMMAND" help:"Shell command that starts the victim again."`
	Freeze    map[string]string `name:"freeze" mapsep:"none" placeholder:"NAME=COMMAND" help:"Shell command that freezes a victim at --url. It needs --thaw."`
	Thaw      map[string]string `name:"thaw" mapsep:"none" placeholder:"NAME=COMMAND" help:"Shell command that lets the victim go on."`
}

// Check is what campaign check is told.
type Check struct {
	Files []string `arg:"" name:"file" help:"Journals, merged by time; - is the standard input."`
	JSON  bool     `name:"json" help:"Print what was found as one line of JSON."`
}

// common are the commands of every program.
type common struct {
	Serve       struct{} `cmd:"" default:"1" help:"Serve: the default."`
	Config      struct{} `cmd:"" help:"Print what is in force, secrets masked."`
	Migrate     struct{} `cmd:"" help:"Create or upgrade the schema, and end."`
	Healthcheck struct{} `cmd:"" help:"Ask the running program whether it is ready; exit code 1 if not."`
	Audit       Audit    `cmd:"" help:"Print what operators have done, newest first, as JSON texts, one a line, with PARLEY_ADMIN_TOKEN."`
	Openapi     struct {
		Admin bool `name:"admin" help:"That of the admin address."`
	} `cmd:"" help:"Print the OpenAPI document."`
}

// Audit is what the command audit is told.
type Audit struct {
	URL   string `name:"url" help:"Admin address of the server. Default: that of this program (admin-listen)."`
	Limit int    `name:"limit" default:"100" help:"Entries at most; 0 is all of them."`
}

// Keys is what the commands about keys are told. Not every command uses every field.
type Keys struct {
	JSON bool
	// Algorithm of the new key; empty for that of the settings.
	Algorithm string
	// Now lets the new key sign at once.
	Now bool
	// Overlap is how long the old key verifies then; negative for as long as a token lasts.
	Overlap time.Duration
}

type keysCommands struct {
	List struct {
		JSON bool `name:"json" help:"Print one JSON document, for programs."`
	} `cmd:"" help:"List the keys: which signs, which will, and until when the others verify."`
	Rotate struct {
		Algorithm string        `name:"algorithm" default:"" enum:",EdDSA,ES256,PS256" help:"Algorithm of the new key. Default: that of key-algorithm."`
		Now       bool          `name:"now" help:"Let the new key sign at once, and not when everybody has had the time to fetch it: for a key that somebody else may have."`
		Overlap   time.Duration `name:"overlap" default:"-1s" help:"How long the old key verifies once the new one signs. 0s ends its tokens then. Default: as long as a token lasts (access-ttl), and a minute."`
		JSON      bool          `name:"json" help:"Print one JSON document, for programs."`
	} `cmd:"" help:"Make a new key, which takes the place of the one that signs. Programs that run notice by themselves."`
}

// command returns what the command of this name was told.
func (k *keysCommands) command(name string) Keys {
	if name == "list" {
		return Keys{JSON: k.List.JSON}
	}
	return Keys{JSON: k.Rotate.JSON, Algorithm: k.Rotate.Algorithm, Now: k.Rotate.Now, Overlap: k.Rotate.Overlap}
}

type authCommands struct {
	common
	Keys   keysCommands        `cmd:"" help:"Look at and rotate the keys that sign tokens, in the data folder."`
	User   accountUserCommands `cmd:"" help:"List, make, change, export or erase users of a running server, with PARLEY_ADMIN_TOKEN."`
	Events eventsCommands      `cmd:"" help:"Look at events that a running server cannot publish, with PARLEY_ADMIN_TOKEN."`
}

type socketCommands struct {
	common
	User     userCommands `cmd:"" help:"Show, export or erase a user of a running server, with PARLEY_ADMIN_TOKEN."`
	Asyncapi struct{}     `cmd:"" help:"Print the AsyncAPI document."`
}

type mailerCommands struct {
	common
	Mail    mailCommands    `cmd:"" help:"Look into the mail queue of a running server, with PARLEY_ADMIN_TOKEN."`
	Webhook webhookCommands `cmd:"" help:"Look at the deliveries of webhooks of a running server, with PARLEY_ADMIN_TOKEN."`
}

type parleyCommands struct {
	common
	Asyncapi struct{}            `cmd:"" help:"Print the AsyncAPI document."`
	Keys     keysCommands        `cmd:"" help:"Look at and rotate the keys that sign tokens, in the data folder."`
	Types    struct{}            `cmd:"" help:"Print the TypeScript types of the socket."`
	Mail     mailCommands        `cmd:"" help:"Look into the mail queue of a running server, with PARLEY_ADMIN_TOKEN."`
	Webhook  webhookCommands     `cmd:"" help:"Look at the deliveries of webhooks of a running server, with PARLEY_ADMIN_TOKEN."`
	Events   eventsCommands      `cmd:"" help:"Look at events that a running server cannot publish, with PARLEY_ADMIN_TOKEN."`
	User     accountUserCommands `cmd:"" help:"List, make, change, export or erase users of a running server, with PARLEY_ADMIN_TOKEN."`
	Bench    struct {
		Idle    Bench   `cmd:"" help:"Bytes and processor time of idle members."`
		Fanout  Bench   `cmd:"" help:"Processor time of a delivery."`
		Send    Bench   `cmd:"" help:"Acknowledged, stored messages a second."`
		Client  Bench   `cmd:"" hidden:"" help:"The other side of a bench, in a process of its own."`
		Floor   Bench   `cmd:"" hidden:"" help:"A bare loop over epoll, for --beside."`
		Million Million `cmd:"" help:"Members of one room at many nodes, with one store and one Redis."`
		Node    Bench   `cmd:"" hidden:"" help:"A node of bench million."`
	} `cmd:"" help:"Measure, against a server of its own."`
	Campaign struct {
		Crash    Crash    `cmd:"" help:"Kill and freeze servers while clients use them, and check what each client was told."`
		Check    Check    `cmd:"" help:"Check journals of a campaign, or of clients of any server."`
		Overload Overload `cmd:"" help:"Overload a server by readers that do not read, clients that all come back at once, hostile frames, connections that are left, and a lack of file descriptors. For Linux."`
		Power    Power    `cmd:"" help:"Cut the power under a store again and again, and compare what was acknowledged with what is there. --store is sqlite, postgres, mariadb, redis or kafka. For the superuser on Linux."`
	} `cmd:"" help:"Break things on purpose, and see whether what was promised holds."`
}

// alone reports whether a command does without the other services and the bus to them.
func (c Command) alone() bool {
	return slices.Contains([]string{"migrate", "openapi", "asyncapi", "types", "audit"}, c.Name) || strings.HasPrefix(c.Name, "mail ") || strings.HasPrefix(c.Name, "webhook ") || strings.HasPrefix(c.Name, "events ") || strings.HasPrefix(c.Name, "user ") || strings.HasPrefix(c.Name, "keys ") || strings.HasPrefix(c.Name, "campaign ")
}

// command returns what the command of this name was told.
func command(name string, commands any) Command {
	c := Command{Name: name}
	of, isMail := strings.CutPrefix(name, "mail ")
	ofWebhook, isWebhook := strings.CutPrefix(name, "webhook ")
	ofEvents, isEvents := strings.CutPrefix(name, "events ")
	ofKeys, isKeys := strings.CutPrefix(name, "keys ")
	c.User, _ = userCommand(name, commands)
	switch all := commands.(type) {
	case authCommands:
		c.Admin, c.Audit = all.Openapi.Admin, all.Audit
		if isEvents {
			c.Events = all.Events.command(ofEvents)
		}
		if isKeys {
			c.Keys = all.Keys.command(ofKeys)
		}
	case socketCommands:
		c.Admin, c.Audit = all.Openapi.Admin, all.Audit
	case mailerCommands:
		c.Admin, c.Audit = all.Openapi.Admin, all.Audit
		if isMail {
			c.Mail = all.Mail.command(of)
		}
		if isWebhook {
			c.Webhook = all.Webhook.command(ofWebhook)
		}
	case parleyCommands:
		c.Admin, c.Audit = all.Openapi.Admin, all.Audit
		if isMail {
			c.Mail = all.Mail.command(of)
		}
		if isWebhook {
			c.Webhook = all.Webhook.command(ofWebhook)
		}
		if isEvents {
			c.Events = all.Events.command(ofEvents)
		}
		if isKeys {
			c.Keys = all.Keys.command(ofKeys)
		}
		c.Bench = map[string]Bench{
			"bench idle": all.Bench.Idle, "bench fanout": all.Bench.Fanout, "bench send": all.Bench.Send, "bench client": all.Bench.Client,
		}[name]
		c.Million = all.Bench.Million
		c.Crash, c.Check = all.Campaign.Crash, all.Campaign.Check
		c.Overload = all.Campaign.Overload
		c.Power = all.Campaign.Power
	}
	return c
}
