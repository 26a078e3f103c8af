// Package maint finds in the maintainer scripts of Debian packages what can be
// said without running them.
//
// A script is a program, and nothing short of a shell knows what it does. But
// what most of them do is written by debhelper or in its manner: commands of a
// few tools, with all their words in plain sight. [Parse] returns those. It
// follows no branch and expands no variable: whoever uses the result knows the
// tools, leaves alone what is there already, and compares with a system that
// has run the scripts.
package maint

import "strings"

// Script is what a script says in plain sight, in its order.
type Script struct {
	Commands  []Command
	Documents []Document
}

// Command is a simple command, its name first. No word of it needed an
// expansion, but for $DPKG_ROOT, which is empty on the system itself.
type Command []string

// Document is a here-document that cat(1) writes into a file.
type Document struct{ Path, Text string }

// Parse reads a script for sh(1). There is no error: what cannot be understood is left out.
func Parse(script string) Script {
	p := &parser{rest: script}
	for p.rest != "" {
		p.statement()
	}
	return p.found
}

// Flags returns the words of the command that start with a dash, and the others
// without the name. A double dash is a flag like any other.
func (c Command) Flags() (flags, words []string) {
	for _, w := range c[1:] {
		if strings.HasPrefix(w, "-") {
			flags = append(flags, w)
		} else {
			words = append(words, w)
		}
	}
	return flags, words
}

// parser reads a script from the front.
type parser struct {
	rest  string
	found Script

	words   []string
	unclear bool       // a word of this command needs an expansion
	target  string     // of > and >>
	pending []hereText // here-documents whose text follows the line
	before  int        // how many of them are other commands'
}

// hereText is a here-document of which only the operator has been read.
type hereText struct {
	end    string // the line that ends it
	tabs   bool   // leading tabs do not count
	quoted bool   // nothing in it is expanded
	path   string // where it goes; "" when that is of no interest
}

// statement reads what comes next: blanks, a comment, an operator or a word.
func (p *parser) statement() {
	switch c := p.rest[0]; {
	case c == ' ' || c == '\t':
		p.rest = p.rest[1:]
	case strings.HasPrefix(p.rest, "\\\n"):
		p.rest = p.rest[2:]
	case c == '#':
		comment, _, _ := strings.Cut(p.rest, "\n")
		p.rest = p.rest[len(comment):]
	case c == '\n':
		p.rest = p.rest[1:]
		p.endCommand()
		p.hereTexts()
	case strings.IndexByte(";&|()", c) >= 0:
		p.rest = p.rest[1:]
		p.endCommand()
	case c == '<' || c == '>':
		p.redirect()
	default:
		w, clear, _ := p.word()
		p.unclear = p.unclear || !clear
		if w != "" || !clear {
			p.words = append(p.words, w)
		}
	}
	if p.rest == "" {
		p.endCommand()
	}
}

// redirect reads an operator with its file.
func (p *parser) redirect() {
	operator := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "<>&"))]
	p.rest = p.rest[len(operator):]
	here := operator == "<<"
	tabs := here && strings.HasPrefix(p.rest, "-")
	if tabs {
		p.rest = p.rest[1:]
	}
	p.rest = strings.TrimLeft(p.rest, " \t")
	if n := len(p.words); n > 0 && isNumber(p.words[n-1]) {
		p.words = p.words[:n-1] // as in 2>/dev/null
	}
	w, clear, quoted := p.word()
	switch {
	case here:
		p.pending = append(p.pending, hereText{end: w, tabs: tabs, quoted: quoted})
	case clear && (operator == ">" || operator == ">>"):
		p.target = w
	}
}

// endCommand notes the command that the words so far make.
func (p *parser) endCommand() {
	words := p.words
	for len(words) > 0 && leads(words[0]) {
		words = words[1:]
	}
	if len(words) > 0 && !p.unclear {
		if words[0] == "cat" && len(words) == 1 && p.target != "" {
			for i := range p.pending[p.before:] {
				p.pending[p.before+i].path = p.target
			}
		}
		p.found.Commands = append(p.found.Commands, words)
	}
	p.words, p.unclear, p.target, p.before = nil, false, "", len(p.pending)
}

// leads reports whether a word comes before a command: a keyword or an assignment.
func leads(word string) bool {
	switch word {
	case "if", "then", "elif", "else", "while", "until", "do", "!", "{", "time":
		return true
	}
	name, _, assigned := strings.Cut(word, "=")
	return assigned && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// hereTexts reads the here-documents of the line that has just ended.
func (p *parser) hereTexts() {
	for _, h := range p.pending {
		var text strings.Builder
		for p.rest != "" {
			line, after, _ := strings.Cut(p.rest, "\n")
			p.rest = after
			if h.tabs {
				line = strings.TrimLeft(line, "\t")
			}
			if line == h.end {
				break
			}
			text.WriteString(line + "\n")
		}
		if h.path != "" && (h.quoted || !strings.ContainsAny(text.String(), "$`\\")) {
			p.found.Documents = append(p.found.Documents, Document{h.path, text.String()})
		}
	}
	p.pending, p.before = nil, 0
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
