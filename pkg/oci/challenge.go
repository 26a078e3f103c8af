package oci

import (
	"errors"
	"strings"
)

// maxChallenges is how many challenges of one answer are looked at.
const maxChallenges = 16

// challenge is how a registry wants to be asked: RFC 9110, 11.6.1.
type challenge struct {
	scheme string // "bearer", "basic", in lower case
	params map[string]string
}

// parseChallenges reads the WWW-Authenticate headers of an answer. What does
// not follow the grammar ends it: the challenges before are returned.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		p := challengeParser{rest: h}
		for len(all) < maxChallenges {
			c, err := p.challenge()
			if err != nil {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

var errGrammar = errors.New("not a challenge")

// challengeParser walks one header.
type challengeParser struct{ rest string }

// challenge reads `scheme key=value, key="value"` up to the next scheme.
func (p *challengeParser) challenge() (challenge, error) {
	p.skip(" \t,")
	scheme := p.token()
	if scheme == "" || p.rest != "" && !strings.ContainsAny(p.rest[:1], " \t,") {
		return challenge{}, errGrammar
	}
	c := challenge{scheme: strings.ToLower(scheme), params: make(map[string]string)}
	for {
		before := p.rest
		p.skip(" \t,")
		key := p.token()
		p.skip(" \t")
		if key == "" || !strings.HasPrefix(p.rest, "=") {
			p.rest = before // it is the next scheme, or the end
			return c, nil
		}
		p.rest = p.rest[1:]
		p.skip(" \t")
		value, err := p.value()
		if err != nil {
			return challenge{}, err
		}
		key = strings.ToLower(key)
		if _, twice := c.params[key]; twice { // two readers could read two things
			return challenge{}, errGrammar
		}
		c.params[key] = value
	}
}

// value reads a token or a quoted string.
func (p *challengeParser) value() (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		// Not every registry quotes a URL: what ends at a comma or blank is taken.
		end := strings.IndexAny(p.rest, " \t,")
		if end < 0 {
			end = len(p.rest)
		}
		v := p.rest[:end]
		p.rest = p.rest[end:]
		return v, nil
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", errGrammar
}

func (p *challengeParser) skip(set string) { p.rest = strings.TrimLeft(p.rest, set) }

// token reads the characters that RFC 9110, 5.6.2, allows in one.
func (p *challengeParser) token() string {
	i := 0
	for i < len(p.rest) && isTokenByte(p.rest[i]) {
		i++
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
