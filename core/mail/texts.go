package mail

// texts is what one mail says. {product} and {until}, the time until which a code is good or
// at which something happened, are filled in; {asked} is the time of a sign-up, and {network} where
// it came from; {device} is a device, with the network that it came from; {code} is a code to be typed in.
type texts struct {
	subject, heading string
	paragraphs       []string
	// asked and askedFrom follow the paragraphs: where only the time of the sign-up is known, and
	// where its network is known too.
	asked, askedFrom string
	button           string // empty: no link
	footer           string
}

// language is what all mails in one language say.
type language struct {
	greeting, anonymous string // with {name}, and without
	linkHint            string
	time                string // layout of a time in UTC
	anyDevice           string // one whose kind is not known
	fromNetwork         string // with %s for the network
	kinds               map[Kind]texts
}

// languages by their tag of BCP 47.
var languages = map[string]language{
	"en": {
		greeting:  "Hello {name},",
		anonymous: "Hello,",
		linkHint:  "If the button does not work, open this address:",
		time:      "2 January 2006, 15:04 UTC",
		anyDevice: "unknown", fromNetwork: ", from the network %s",
		kinds: map[Kind]texts{
			KindVerification: {
				subject:    "Confirm your e-mail address for {product}",
				heading:    "Confirm your e-mail address",
				paragraphs: []string{"One step is left: confirm that this address is yours. The link works once, until {until}."},
				asked:      "The sign-up was asked for on {asked}. Confirm it only if it was yours: the account gets the password that was chosen then.",
				askedFrom:  "The sign-up was asked for on {asked}, from the network address {network}. Confirm it only if it was yours: the account gets the password that was chosen then.",
				button:     "Confirm address",
				footer:     "You get this mail because somebody signed up for {product} with this address. If that was not you, do nothing: without a confirmation nobody can use the account.",
			},
			KindAddressTaken: {
				subject: "You already have an account at {product}",
				heading: "You already have an account",
				paragraphs: []string{
					"Somebody has just tried to sign up for {product} with this address, which has an account already. Nothing was changed.",
					"If that was you, just sign in. If you have forgotten the password, you can ask for a new one there.",
				},
				asked:     "The sign-up was asked for on {asked}.",
				askedFrom: "The sign-up was asked for on {asked}, from the network address {network}.",
				button:    "Go to {product}",
				footer:    "If that was not you, there is nothing to do: whoever it was did not learn that you have an account.",
			},
			KindPasswordReset: {
				subject:    "Choose a new password for {product}",
				heading:    "Choose a new password",
				paragraphs: []string{"Somebody, hopefully you, asked for a new password. The link works once, until {until}. A new password signs you out on all devices."},
				button:     "Choose password",
				footer:     "If that was not you, do nothing: your password stays as it is.",
			},
			KindPasswordChanged: {
				subject:    "Your password for {product} was changed",
				heading:    "Your password was changed",
				paragraphs: []string{"The password of your account was changed on {until}. If that was you, there is nothing to do."},
				button:     "Go to {product}",
				footer:     "If that was not you, ask for a new password at once: that locks everybody else out.",
			},
			KindNewDevice: {
				subject: "A new device has signed in to your account at {product}",
				heading: "A new device has signed in",
				paragraphs: []string{
					"A device that we do not know signed in to your account on {until}. The device: {device}.",
					"If that was you, there is nothing to do.",
				},
				button: "Go to {product}",
				footer: "If that was not you, sign in and look where you are signed in, in the menu of your account: you can sign that device out there. Then choose a new password at once.",
			},
			KindInvitation: {
				subject:    "Your account at {product}",
				heading:    "An account was made for you",
				paragraphs: []string{"An administrator of {product} has made an account for this address. Choose a password to use it. The link works once, until {until}."},
				button:     "Choose password",
				footer:     "If you do not know {product}, do nothing: without a password nobody can use the account.",
			},
			KindLink: {
				subject:    "Sign in to {product}",
				heading:    "Sign in to {product}",
				paragraphs: []string{"Somebody, hopefully you, asked for a link to sign in. It works once, until {until}."},
				button:     "Sign in",
				footer:     "If that was not you, do nothing and give the link to nobody: without it nobody gets in.",
			},
			KindEmailChange: {
				subject: "Confirm your new e-mail address for {product}",
				heading: "Confirm your new e-mail address",
				paragraphs: []string{
					"Somebody, hopefully you, wants to use this address for an account at {product}. Enter this code in your profile there, where you are signed in:",
					"{code}",
					"The code works once, until {until}. It signs you out on all other devices.",
				},
				button: "Go to {product}",
				footer: "If that was not you, do nothing, and give the code to nobody: without it your address is not used.",
			},
			KindEmailChanged: {
				subject:    "Your e-mail address for {product} was changed",
				heading:    "Your e-mail address was changed",
				paragraphs: []string{"Your account has had another e-mail address since {until}. Mails go there from now on, and you sign in with it. If that was you, there is nothing to do."},
				button:     "Go to {product}",
				footer:     "If that was not you, somebody knows your password: tell the operators of {product} at once.",
			},
		},
	},
	"de": {
		greeting:  "Hallo {name},",
		anonymous: "Hallo,",
		linkHint:  "Falls der Knopf nicht funktioniert, öffnen Sie diese Adresse:",
		time:      "02.01.2006, 15:04 UTC",
		anyDevice: "unbekannt", fromNetwork: ", aus dem Netz %s",
		kinds: map[Kind]texts{
			KindVerification: {
				subject:    "Bestätigen Sie Ihre E-Mail-Adresse für {product}",
				heading:    "Bestätigen Sie Ihre E-Mail-Adresse",
				paragraphs: []string{"Ein Schritt fehlt noch: Bestätigen Sie, dass diese Adresse Ihnen gehört. Der Link gilt einmal, bis {until}."},
				asked:      "Die Anmeldung kam am {asked}. Bestätigen Sie sie nur, wenn es Ihre war: Das Konto bekommt das Passwort, das dabei gewählt wurde.",
				askedFrom:  "Die Anmeldung kam am {asked} von der Netzadresse {network}. Bestätigen Sie sie nur, wenn es Ihre war: Das Konto bekommt das Passwort, das dabei gewählt wurde.",
				button:     "Adresse bestätigen",
				footer:     "Sie erhalten diese E-Mail, weil sich jemand mit dieser Adresse bei {product} angemeldet hat. Falls Sie das nicht waren, müssen Sie nichts tun: Ohne Bestätigung kann niemand das Konto benutzen.",
			},
			KindAddressTaken: {
				subject: "Sie haben schon ein Konto bei {product}",
				heading: "Sie haben schon ein Konto",
				paragraphs: []string{
					"Jemand wollte sich gerade mit dieser Adresse bei {product} neu anmelden; sie hat aber schon ein Konto. Es wurde nichts geändert.",
					"Falls Sie das waren, melden Sie sich einfach an. Ein vergessenes Passwort können Sie dort neu setzen.",
				},
				asked:     "Die Anmeldung kam am {asked}.",
				askedFrom: "Die Anmeldung kam am {asked} von der Netzadresse {network}.",
				button:    "Zu {product}",
				footer:    "Falls Sie das nicht waren, müssen Sie nichts tun: Niemand hat erfahren, dass Sie ein Konto haben.",
			},
			KindPasswordReset: {
				subject:    "Wählen Sie ein neues Passwort für {product}",
				heading:    "Wählen Sie ein neues Passwort",
				paragraphs: []string{"Jemand, hoffentlich Sie, hat ein neues Passwort verlangt. Der Link gilt einmal, bis {until}. Ein neues Passwort meldet Sie auf allen Geräten ab."},
				button:     "Passwort wählen",
				footer:     "Falls Sie das nicht waren, müssen Sie nichts tun: Ihr Passwort bleibt, wie es ist.",
			},
			KindPasswordChanged: {
				subject:    "Ihr Passwort für {product} wurde geändert",
				heading:    "Ihr Passwort wurde geändert",
				paragraphs: []string{"Das Passwort Ihres Kontos wurde am {until} geändert. Falls Sie das waren, müssen Sie nichts tun."},
				button:     "Zu {product}",
				footer:     "Falls Sie das nicht waren, verlangen Sie sofort ein neues Passwort: Das sperrt alle anderen aus.",
			},
			KindNewDevice: {
				subject: "Ein neues Gerät hat sich bei Ihrem Konto angemeldet: {product}",
				heading: "Ein neues Gerät hat sich angemeldet",
				paragraphs: []string{
					"Ein Gerät, das wir nicht kennen, hat sich am {until} bei Ihrem Konto angemeldet. Das Gerät: {device}.",
					"Falls Sie das waren, müssen Sie nichts tun.",
				},
				button: "Zu {product}",
				footer: "Falls Sie das nicht waren, melden Sie sich an und sehen Sie im Menü Ihres Kontos nach, wo Sie angemeldet sind: Dort können Sie das Gerät abmelden. Wählen Sie danach sofort ein neues Passwort.",
			},
			KindInvitation: {
				subject:    "Ihr Konto bei {product}",
				heading:    "Für Sie wurde ein Konto angelegt",
				paragraphs: []string{"Eine Verwalterin oder ein Verwalter von {product} hat für diese Adresse ein Konto angelegt. Wählen Sie ein Passwort, um es zu benutzen. Der Link gilt einmal, bis {until}."},
				button:     "Passwort wählen",
				footer:     "Falls Sie {product} nicht kennen, müssen Sie nichts tun: Ohne Passwort kann niemand das Konto benutzen.",
			},
			KindLink: {
				subject:    "Anmelden bei {product}",
				heading:    "Anmelden bei {product}",
				paragraphs: []string{"Jemand, hoffentlich Sie, hat um einen Link zum Anmelden gebeten. Er gilt einmal, bis {until}."},
				button:     "Anmelden",
				footer:     "Falls Sie das nicht waren, tun Sie nichts und geben Sie den Link niemandem: Ohne ihn kommt niemand hinein.",
			},
			KindEmailChange: {
				subject: "Bestätigen Sie Ihre neue E-Mail-Adresse für {product}",
				heading: "Bestätigen Sie Ihre neue E-Mail-Adresse",
				paragraphs: []string{
					"Jemand, hoffentlich Sie, möchte diese Adresse für ein Konto bei {product} benutzen. Geben Sie diesen Code dort in Ihrem Profil ein, wo Sie angemeldet sind:",
					"{code}",
					"Der Code gilt einmal, bis {until}. Er meldet Sie auf allen anderen Geräten ab.",
				},
				button: "Zu {product}",
				footer: "Falls Sie das nicht waren, tun Sie nichts und geben Sie den Code niemandem: Ohne ihn wird Ihre Adresse nicht benutzt.",
			},
			KindEmailChanged: {
				subject:    "Ihre E-Mail-Adresse für {product} wurde geändert",
				heading:    "Ihre E-Mail-Adresse wurde geändert",
				paragraphs: []string{"Ihr Konto hat seit dem {until} eine andere E-Mail-Adresse. E-Mails gehen von nun an dorthin, und Sie melden sich mit ihr an. Falls Sie das waren, müssen Sie nichts tun."},
				button:     "Zu {product}",
				footer:     "Falls Sie das nicht waren, kennt jemand Ihr Passwort: Sagen Sie es sofort denen, die {product} betreiben.",
			},
		},
	},
}
