"""What a person looks at: figures, the document that compares with the paper, pages of HTML."""
