package maint

import "strings"

// word reads a word. It is clear when it says what it means without an
// expansion, and quoted when a part of it was.
func (p *parser) word() (text string, clear, quoted bool) {
	clear = true
	var b strings.Builder
	for p.rest != "" {
		switch c := p.rest[0]; c {
		case ' ', '\t', '\n', ';', '&', '|', '(', ')', '<', '>':
			return b.String(), clear, quoted
		case '\'':
			quoted = true
			inside, after, _ := strings.Cut(p.rest[1:], "'")
			b.WriteString(inside)
			p.rest = after
		case '"':
			quoted = true
			p.rest = p.rest[1:]
			clear = p.doubleQuoted(&b) && clear
		case '\\':
			quoted = true
			b.WriteString(p.escaped())
		case '$', '`':
			clear = p.expansion() && clear
		default:
			b.WriteByte(c)
			p.rest = p.rest[1:]
		}
	}
	return b.String(), clear, quoted
}

// doubleQuoted reads up to the closing quote and reports whether that was clear.
func (p *parser) doubleQuoted(b *strings.Builder) bool {
	clear := true
	for p.rest != "" {
		switch c := p.rest[0]; c {
		case '"':
			p.rest = p.rest[1:]
			return clear
		case '\\':
			if len(p.rest) > 1 && strings.IndexByte("$`\"\\\n", p.rest[1]) < 0 {
				b.WriteByte('\\') // means itself
			}
			b.WriteString(p.escaped())
		case '$', '`':
			clear = p.expansion() && clear
		default:
			b.WriteByte(c)
			p.rest = p.rest[1:]
		}
	}
	return clear
}

// escaped reads a backslash and what follows it. A line that goes on in the next is one line.
func (p *parser) escaped() string {
	p.rest = p.rest[1:]
	if p.rest == "" {
		return ""
	}
	c := p.rest[:1]
	p.rest = p.rest[1:]
	if c == "\n" {
		return ""
	}
	return c
}

// expansion reads what starts with a dollar sign or a backquote, and reports
// whether it is known to be empty: $DPKG_ROOT is, which scripts put before paths.
func (p *parser) expansion() bool {
	switch {
	case p.rest[0] == '`':
		_, p.rest, _ = strings.Cut(p.rest[1:], "`")
		return false
	case strings.HasPrefix(p.rest, "${"):
		inside := p.nested('{', '}')
		name := strings.TrimLeft(inside, "#")
		return inside == "DPKG_ROOT" || name == inside && strings.HasPrefix(name, "DPKG_ROOT:+") || inside == "DPKG_ROOT:-"
	case strings.HasPrefix(p.rest, "$("):
		p.nested('(', ')')
		return false
	}
	n := 1
	for n < len(p.rest) && (p.rest[n] == '_' || isLetterOrDigit(p.rest[n])) {
		n++
	}
	name := p.rest[1:n]
	if name == "" && len(p.rest) > 1 && strings.IndexByte("@*#?$!-", p.rest[1]) >= 0 {
		n = 2
	}
	p.rest = p.rest[n:]
	return name == "DPKG_ROOT"
}

// nested reads from "$(" or "${" to the bracket that closes it and returns what is between.
func (p *parser) nested(open, closing byte) string {
	depth := 0
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case open:
			depth++
		case closing:
			if depth--; depth == 0 {
				inside := p.rest[2:i]
				p.rest = p.rest[i+1:]
				return inside
			}
		}
	}
	p.rest = ""
	return ""
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
