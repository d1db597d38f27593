package mail

// TemplateConfig says what mails look like.
type TemplateConfig struct {
	// Product is the name that mails speak for. Default "Parley".
	Product string
	// PublicURL is the base of links, for example "https://chat.example.com". Required.
	PublicURL string
	// FromName and From are the sender. Defaults Product and "no-reply@" with the host of PublicURL.
	FromName, From string
}

// Templates renders jobs to messages, in HTML and text.
type Templates struct{ cfg TemplateConfig }

// NewTemplates checks the configuration.
func NewTemplates(cfg TemplateConfig) (*Templates, error) { return &Templates{cfg: cfg}, nil }

// Render makes the message of a job. A kind without a template, or data that does not fit,
// is an error of kind Invalid: it can never succeed.
func (t *Templates) Render(j Job) (Message, error) { panic("stub") }
